"""The bootstrap over seeds, prompts and images: exact cases, widths, coverage, and Holm."""

import math

import numpy as np
import pytest

from adrpo.errors import AdrpoError
from adrpo.evaluation.across_seeds import (
    SeedEstimate,
    holm,
    mean_over_seeds,
    over_seeds,
    paired_difference,
    paired_ratio,
    standard_error,
)
from adrpo.evaluation.statistics import bootstrap_mean

T_975 = {2: 4.303, 4: 2.776}
"""Student's t, 97.5 % quantile, by degrees of freedom (tables)."""


def half_width(estimate: SeedEstimate) -> float:
    return (estimate.high - estimate.low) / 2


def test_equal_methods_differ_by_exactly_zero() -> None:
    values = np.random.default_rng(0).normal(size=(3, 20, 4))
    found = paired_difference(values, values.copy(), ["a", "b"] * 10, seed=1)
    assert (found.mean, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert found.by_seed == (0, 0, 0)


def test_a_constant_shift_and_factor_are_exact() -> None:
    before = np.random.default_rng(1).uniform(1, 9, size=(4, 12, 3))
    shift = paired_difference(before + 2, before, ["a"] * 12, seed=0)
    # All resamples and all seeds say the same; rounding of float64 alone remains.
    assert (shift.mean, shift.low, shift.high) == pytest.approx((2, 2, 2), abs=1e-9)
    assert shift.p_value == 2 / 5001  # no resample reaches 0; the data counts as one
    factor = paired_ratio(before, 0.75 * before, ["a"] * 12, seed=0)
    assert (factor.mean, factor.low, factor.high) == pytest.approx((0.75,) * 3, abs=1e-9)


@pytest.mark.parametrize("seeds", [3, 5])
def test_seeds_alone_give_student_s_interval(seeds: int) -> None:
    # Many prompts without spread: only seeds vary.
    effects = np.random.default_rng(2).normal(size=seeds)
    values = np.tile(effects[:, None, None], (1, 50, 2))
    found = mean_over_seeds(values, ["a"] * 50, resamples=40_000, seed=0)
    # A bootstrap of few seeds is discrete where Student's law is not: over 60 draws of effects
    # the half-widths lay between 0.97 and 1.03 of Student's. Unstretched, they are about 0.6
    # for 5 seeds and 0.4 for 3.
    expected = T_975[seeds - 1] * effects.std(ddof=1) / math.sqrt(seeds)
    assert half_width(found) == pytest.approx(expected, rel=0.05)
    assert found.standard_error == pytest.approx(effects.std(ddof=1) / math.sqrt(seeds), rel=1e-12)
    assert found.mean == pytest.approx(effects.mean(), rel=1e-12)


def test_prompts_are_crossed_with_seeds() -> None:
    # Five seeds that agree on every prompt hold no more than one: were prompts drawn anew for
    # each seed, the interval would shrink by sqrt(5).
    prompts = np.random.default_rng(3).normal(size=(1, 100, 1))
    one = mean_over_seeds(prompts, ["a"] * 100, seed=0)
    five = mean_over_seeds(np.repeat(prompts, 5, axis=0), ["a"] * 100, seed=0)
    assert (five.low, five.high) == pytest.approx((one.low, one.high), abs=1e-12)
    # 1.96 s / sqrt(n); 5000 resamples leave 1 % of the width, and 5 % is far outside.
    assert half_width(one) == pytest.approx(1.96 * prompts.std() / 10, rel=0.05)


def test_images_are_crossed_with_seeds_too() -> None:
    noises = np.random.default_rng(4).normal(size=(1, 1, 4)) + np.zeros((1, 60, 1))
    one = mean_over_seeds(noises, ["a"] * 60, seed=0)
    four = mean_over_seeds(np.repeat(noises, 4, axis=0), ["a"] * 60, seed=0)
    assert half_width(one) > 0
    assert (four.low, four.high) == pytest.approx((one.low, one.high), abs=1e-12)


def test_one_seed_agrees_with_the_bootstrap_of_one_run() -> None:
    values = np.random.default_rng(5).normal(size=(60, 4)) + np.arange(60)[:, None] % 7
    categories = ["a", "b", "c"] * 20
    ours = mean_over_seeds(values[None], categories, resamples=5000, seed=0)
    theirs = bootstrap_mean(values, categories, resamples=5000, seed=1)
    # Two independent draws of one law: each end has a standard error of 2 % of the half-width
    # (test_statistics.py), so 10 % is more than three of their difference.
    room = 0.1 * (theirs.high - theirs.low) / 2
    assert ours.low == pytest.approx(theirs.low, abs=room)
    assert ours.high == pytest.approx(theirs.high, abs=room)
    assert math.isnan(ours.standard_error)


def test_categories_are_strata() -> None:
    values = np.where(np.arange(40) % 2, 100.0, 0.0)[None, :, None]
    strata = mean_over_seeds(values, ["easy", "hard"] * 20, seed=0)
    assert (strata.low, strata.high) == pytest.approx((50, 50), abs=1e-9)


def test_intervals_cover_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(6)
    hits = 0
    for trial in range(400):
        seeds, prompts = rng.normal(size=(5, 1, 1)), rng.normal(size=(1, 30, 1))
        values = seeds + prompts + rng.normal(size=(5, 30, 2))
        found = mean_over_seeds(values, ["a", "b", "c"] * 10, resamples=600, seed=trial)
        hits += found.low <= 0 <= found.high
    # 380 expected at exactly 95 %, standard error 4.4. Below, three of them; above, what depends
    # on a seed and a prompt together counts twice and may widen a little. Without the stretch 349
    # are covered.
    assert 367 <= hits <= 398


def test_the_p_value_is_level() -> None:
    rng = np.random.default_rng(7)
    below = 0
    for trial in range(400):
        difference = rng.normal(size=(5, 1, 1)) + rng.normal(size=(5, 20, 1))
        found = paired_difference(
            difference, np.zeros_like(difference), ["a"] * 20, resamples=600, seed=trial
        )
        assert found.p_value is not None
        below += found.p_value < 0.05
    # At most 5 % of 400 = 20, standard error 4.4, plus three of them. Without the stretch 55.
    assert below <= 33


def test_the_p_value_sees_a_difference() -> None:
    rng = np.random.default_rng(8)
    base = rng.normal(size=(1, 40, 2))
    ours = base + 0.4 + 0.05 * rng.normal(size=(5, 1, 1)) + 0.1 * rng.normal(size=(5, 40, 2))
    found = paired_difference(ours, np.repeat(base, 5, axis=0), ["a"] * 40, seed=0)
    assert found.p_value is not None and found.p_value < 0.01
    assert found.low < 0.4 < found.high


def test_a_shared_spread_leaves_the_paired_difference() -> None:
    rng = np.random.default_rng(9)
    shared = 5 * rng.normal(size=(3, 30, 2))
    other = shared + 1
    categories = ["a"] * 30
    paired = paired_difference(other, shared, categories, seed=0)
    assert half_width(paired) < 1e-9 < half_width(mean_over_seeds(other, categories, seed=0))


def test_the_ratio_is_the_mean_of_the_seeds_ratios() -> None:
    before, after = np.random.default_rng(10).uniform(1, 2, size=(2, 3, 20))
    found = paired_ratio(before, after, ["a"] * 20, seed=0)
    assert found.by_seed == pytest.approx(after.mean(1) / before.mean(1), rel=1e-12)
    assert found.mean == pytest.approx(np.mean(found.by_seed), rel=1e-12)
    assert found.low < found.mean < found.high


def test_the_same_seed_gives_the_same_result() -> None:
    values = np.random.default_rng(11).normal(size=(3, 20, 4))
    categories = ["a", "b"] * 10
    assert mean_over_seeds(values, categories, seed=3) == mean_over_seeds(
        values, categories, seed=3
    )
    assert mean_over_seeds(values, categories, seed=3) != mean_over_seeds(
        values, categories, seed=4
    )


def test_one_number_per_seed() -> None:
    found = over_seeds([1.0, 2.0, 3.0], tested=True, seed=0)
    assert found.mean == 2 and found.by_seed == (1, 2, 3)
    assert found.standard_error == pytest.approx(1 / math.sqrt(3))
    assert found.low < 1 < 3 < found.high  # 2 -+ 4.3 * 0.58
    alone = over_seeds([7.0], seed=0)
    assert (alone.mean, alone.low, alone.high) == (7, 7, 7)
    assert math.isnan(alone.standard_error) and math.isnan(standard_error([7.0]))


def test_holm_as_worked_by_hand() -> None:
    # Sorted .01 .02 .03 .04 times 4 3 2 1 is .04 .06 .06 .04; the running maximum .04 .06 .06 .06.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06], abs=1e-15)
    assert holm([0.9, 0.5]) == [1, 1]
    assert holm([0.2]) == [0.2] and holm([]) == []


def test_refuses_values_that_are_no_numbers_and_shapes_that_disagree() -> None:
    values = np.zeros((2, 3, 2))
    values[1, 2, 0] = math.nan
    with pytest.raises(AdrpoError, match=r"received nan for seed 1, prompt 2, image 0"):
        mean_over_seeds(values, ["a"] * 3, seed=0)
    with pytest.raises(AdrpoError, match="2 categories"):
        mean_over_seeds(np.zeros((2, 3, 2)), ["a"] * 2, seed=0)
    with pytest.raises(AdrpoError, match=r"\[2, 3, 2\] and \[3, 3, 2\]"):
        paired_difference(np.zeros((2, 3, 2)), np.zeros((3, 3, 2)), ["a"] * 3, seed=0)
    with pytest.raises(AdrpoError, match="use paired_difference"):
        paired_ratio(np.zeros((2, 3)), np.ones((2, 3)), ["a"] * 3, seed=0)
    with pytest.raises(AdrpoError, match="one finite number per seed"):
        over_seeds([1.0, math.nan], seed=0)

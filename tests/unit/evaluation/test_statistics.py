"""The bootstrap against the analytic standard error, and its exact cases."""

import math

import numpy as np
import pytest

from adrpo.errors import AdrpoError
from adrpo.evaluation import bootstrap_change, bootstrap_mean, bootstrap_ratio


def half_width(interval: tuple[float, float, float]) -> float:
    return (interval[2] - interval[1]) / 2


def test_one_category_agrees_with_the_standard_error() -> None:
    values = np.random.default_rng(0).normal(5, 2, size=400)
    interval = bootstrap_mean(values, ["all"] * 400, resamples=4000, seed=1)
    expected = 1.96 * values.std() / math.sqrt(400)
    # A 2.5 % quantile of 4000 draws has standard error sqrt(.025 * .975 / 4000) / density
    # = 0.0025 / 0.058 = 0.042 standard deviations; two of them averaged and divided by 1.96
    # leave 1.5 % of the half-width, and 5 % is three of those.
    assert half_width(interval) == pytest.approx(expected, rel=0.05)
    assert interval.mean == pytest.approx(values.mean(), rel=1e-12)  # the same sum, reordered
    center = (interval.low + interval.high) / 2
    assert center == pytest.approx(values.mean(), abs=0.1 * expected)  # the same 5 %, one end


def test_interval_covers_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(2)
    categories = ["a", "b"] * 30
    hits = 0
    for trial in range(300):
        prompts = rng.normal(0, 1, size=(60, 1))
        values = prompts + rng.normal(0, 0.5, size=(60, 4))
        _, low, high = bootstrap_mean(values, categories, resamples=400, seed=trial)
        hits += low <= 0 <= high
    # 285 hits expected, with a standard error of 3.8; the bounds are three of them to each side.
    assert 273 <= hits <= 297


def test_images_within_prompts_are_resampled() -> None:
    # All prompts alike: only the images inside vary, so only the inner stage makes a width.
    values = np.tile([0.0, 1.0, 2.0, 3.0], (50, 1))
    interval = bootstrap_mean(values, ["all"] * 50, resamples=4000, seed=0)
    expected = 1.96 * np.std([0, 1, 2, 3]) / math.sqrt(50 * 4)
    assert half_width(interval) == pytest.approx(expected, rel=0.05)  # as in the first test


def test_images_of_a_prompt_are_not_independent() -> None:
    # Four copies of each image say no more than one: the interval must not shrink by half.
    column = np.random.default_rng(3).normal(size=(100, 1))
    one = bootstrap_mean(column, ["all"] * 100, seed=0)
    four = bootstrap_mean(np.repeat(column, 4, axis=1), ["all"] * 100, seed=0)
    # Both have the true width; 2000 resamples leave 2.1 % on each, so 8 % is under three.
    assert half_width(four) == pytest.approx(half_width(one), rel=0.08)


def test_paired_change_is_narrower_when_noise_is_shared() -> None:
    rng = np.random.default_rng(4)
    shared = rng.normal(0, 1, size=(100, 4))
    before = shared + rng.normal(0, 0.1, size=shared.shape)
    after = shared + 0.3 + rng.normal(0, 0.1, size=shared.shape)
    categories = ["a", "b", "c", "d"] * 25
    change = bootstrap_change(before, after, categories, seed=0)
    first = bootstrap_mean(before, categories, seed=0)
    second = bootstrap_mean(after, categories, seed=1)
    unpaired = math.hypot(half_width(first), half_width(second))
    # Standard deviations 1 against 0.1: the paired interval is a tenth; a fifth leaves room.
    assert half_width(change) < 0.2 * unpaired
    assert change.mean == pytest.approx(after.mean() - before.mean(), abs=1e-12)
    assert change.low < 0.3 < change.high


def test_paired_change_is_the_mean_of_the_differences() -> None:
    before, after = np.random.default_rng(5).normal(size=(2, 30, 3))
    categories = ["a", "b", "c"] * 10
    change = bootstrap_change(before, after, categories, seed=7)
    # Linear, and the same resamples: only the order of float64 sums differs.
    assert change == pytest.approx(bootstrap_mean(after - before, categories, seed=7), abs=1e-12)


def test_constant_shift_and_constant_factor_are_exact() -> None:
    before = np.random.default_rng(6).uniform(1, 9, size=(40, 4))
    categories = ["a", "b"] * 20
    # Every resample shows the same change: float64 rounding alone remains.
    shift = bootstrap_change(before, before + 2, categories, seed=0)
    assert shift == pytest.approx((2, 2, 2), abs=1e-12)
    factor = bootstrap_ratio(before, before * 0.75, categories, seed=0)
    assert factor == pytest.approx((0.75, 0.75, 0.75), abs=1e-12)


def test_ratio_is_that_of_the_means() -> None:
    before, after = np.random.default_rng(7).uniform(1, 2, size=(2, 60))
    ratio = bootstrap_ratio(before, after, ["all"] * 60, seed=0)
    assert ratio.mean == pytest.approx(after.mean() / before.mean(), rel=1e-12)
    assert ratio.low < ratio.mean < ratio.high


def test_categories_are_strata() -> None:
    categories = np.array(["easy", "hard"] * 50)
    values = np.where(categories == "easy", 1000.0, 0.0)
    # The categories differ, their prompts do not: no width at all.
    assert bootstrap_mean(values, list(categories), seed=0) == (500, 500, 500)
    noisy = values + np.random.default_rng(8).normal(size=100)
    within = bootstrap_mean(noisy, list(categories), seed=0)
    pooled = bootstrap_mean(noisy, ["all"] * 100, seed=0)
    assert half_width(within) < 0.3  # 1.96 * 1 / sqrt(100) = 0.2, and a half for chance
    assert half_width(pooled) > 50  # 1.96 * 500 / sqrt(100) = 98: what strata keep out


def test_categories_of_unequal_size_keep_their_weight() -> None:
    values = np.array([1.0] * 9 + [0.0])
    interval = bootstrap_mean(values, ["many"] * 9 + ["one"], seed=0)
    assert interval == pytest.approx((0.9, 0.9, 0.9), abs=1e-12)


def test_same_seed_same_interval() -> None:
    values = np.random.default_rng(9).normal(size=(20, 4))
    categories = ["a", "b"] * 10
    assert bootstrap_mean(values, categories, seed=3) == bootstrap_mean(values, categories, seed=3)
    assert bootstrap_mean(values, categories, seed=3) != bootstrap_mean(values, categories, seed=4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_refuses_values_that_are_no_numbers(bad: float) -> None:
    values = np.zeros((3, 2))
    values[1, 0] = bad
    with pytest.raises(AdrpoError, match=r"received (nan|inf) for prompt 1, image 0"):
        bootstrap_mean(values, ["a"] * 3, seed=0)
    with pytest.raises(AdrpoError, match="finite after"):
        bootstrap_change(np.zeros((3, 2)), values, ["a"] * 3, seed=0)


def test_refuses_shapes_that_disagree() -> None:
    with pytest.raises(AdrpoError, match="3 categories"):
        bootstrap_mean(np.zeros((4, 2)), ["a"] * 3, seed=0)
    with pytest.raises(AdrpoError, match=r"\[3, 2\] and \[3, 1\]"):
        bootstrap_change(np.zeros((3, 2)), np.zeros(3), ["a"] * 3, seed=0)
    with pytest.raises(AdrpoError, match="0 categories"):
        bootstrap_mean(np.zeros((0, 2)), [], seed=0)


def test_ratio_refuses_a_mean_of_zero() -> None:
    with pytest.raises(AdrpoError, match="use bootstrap_change"):
        bootstrap_ratio(np.zeros(4), np.ones(4), ["a"] * 4, seed=0)

"""The interval over seeds, prompts and images: exact cases, a random-effects oracle, coverage."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from adrpo.errors import AdrpoError
from adrpo.evaluation.intervals import (
    SMALL,
    Estimate,
    complete_prompts,
    holm,
    mean_over_seeds,
    over_seeds,
    paired_difference,
    paired_ratio,
    pooled_categories,
    standard_error,
    variances_of_means,
)


def half_width(estimate: Estimate) -> float:
    return (estimate.high - estimate.low) / 2


def test_two_way_table_without_strata_is_that_of_the_textbooks() -> None:
    """Mean squares of the two-way layout, computed from the sums of squares of its definition."""
    seeds, prompts = 4, 9
    rng = np.random.default_rng(0)
    table = rng.normal(size=(seeds, 1)) + 3 * rng.normal(size=(1, prompts))
    table = table + rng.normal(size=(seeds, prompts))
    grand = table.mean()
    a = prompts * ((table.mean(1) - grand) ** 2).sum() / (seeds - 1)
    b = seeds * ((table.mean(0) - grand) ** 2).sum() / (prompts - 1)
    rest = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + grand
    e = (rest**2).sum() / ((seeds - 1) * (prompts - 1))
    variance = (a + b - e) / (seeds * prompts)
    freedom = (a + b - e) ** 2 / (
        a**2 / (seeds - 1) + b**2 / (prompts - 1) + e**2 / ((seeds - 1) * (prompts - 1))
    )
    assert a > e and b > e  # nothing is floored in this table
    found = mean_over_seeds(table, ["a"] * prompts)
    reach = stats.t.ppf(0.975, freedom) * math.sqrt(variance)
    # Sums of float64 in another order.
    assert (found.low, found.high) == pytest.approx((grand - reach, grand + reach), rel=1e-9)
    expected = 2 * stats.t.sf(abs(grand) / math.sqrt(variance), freedom)
    assert found.p_value == pytest.approx(expected, rel=1e-9)
    told = reach + stats.t.ppf(0.8, freedom) * math.sqrt(variance)
    assert found.detectable == pytest.approx(told, rel=1e-9)


def test_the_variance_is_unbiased_with_strata() -> None:
    """Over many draws its mean is the variance of the means, which no formula of ours gives."""
    rng = np.random.default_rng(1)
    categories = ["a"] * 4 + ["b"] * 12 + ["c"] * 7
    draws, seeds, prompts = 20_000, 4, len(categories)
    values = 0.3 * rng.normal(size=(draws, seeds, 1)) + rng.normal(size=(draws, 1, prompts))
    values = values + 0.8 * rng.normal(size=(draws, seeds, prompts))
    variance, _ = variances_of_means(values, categories)
    # A variance from 20,000 draws has a standard error of 1 %; flooring adds a little above.
    assert variance.mean() == pytest.approx(values.mean(axis=(1, 2)).var(), rel=0.04)


def test_one_run_is_student_s_interval_of_its_prompts() -> None:
    values = np.random.default_rng(2).normal(size=(1, 30, 4))
    found = mean_over_seeds(values, ["a"] * 30)
    by_prompt = values[0].mean(axis=1)
    expected = stats.ttest_1samp(by_prompt, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert math.isnan(found.standard_error)


def test_seeds_alone_give_student_s_interval() -> None:
    """Many prompts without spread: only seeds vary."""
    effects = np.random.default_rng(3).normal(size=5)
    found = mean_over_seeds(np.tile(effects[:, None, None], (1, 50, 2)), ["a"] * 50)
    expected: Any = stats.ttest_1samp(effects, 0)
    ends = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high), rel=1e-9)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert over_seeds(effects).low == pytest.approx(found.low, rel=1e-9)


def test_equal_methods_differ_by_exactly_zero() -> None:
    values = np.random.default_rng(4).normal(size=(3, 20, 4))
    found = paired_difference(values, values.copy(), ["a", "b"] * 10)
    assert (found.mean, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert found.by_seed == (0, 0, 0) and found.detectable == 0


def test_a_constant_shift_and_factor_are_exact() -> None:
    before = np.random.default_rng(5).uniform(1, 9, size=(4, 12, 3))
    shift = paired_difference(before + 2, before, ["a"] * 12)
    # All prompts and all seeds say the same; rounding of float64 alone remains.
    assert (shift.mean, shift.low, shift.high) == pytest.approx((2, 2, 2), abs=1e-9)
    assert shift.p_value < 1e-9
    factor = paired_ratio(before, 0.75 * before, ["a"] * 12)
    assert (factor.mean, factor.low, factor.high) == pytest.approx((0.75,) * 3, abs=1e-9)


def test_prompts_are_crossed_with_seeds() -> None:
    """Five seeds that agree on every prompt hold no more than one."""
    prompts = np.random.default_rng(6).normal(size=(1, 100, 1))
    one = mean_over_seeds(prompts, ["a"] * 100)
    five = mean_over_seeds(np.repeat(prompts, 5, axis=0), ["a"] * 100)
    assert (five.low, five.high) == pytest.approx((one.low, one.high), rel=1e-9)


def test_images_of_a_prompt_are_not_independent() -> None:
    """Four copies of each image say no more than one."""
    column = np.random.default_rng(7).normal(size=(1, 40, 1))
    one = mean_over_seeds(column, ["a"] * 40)
    four = mean_over_seeds(np.repeat(column, 4, axis=2), ["a"] * 40)
    assert (four.low, four.high) == pytest.approx((one.low, one.high), rel=1e-9)


def test_categories_are_strata_of_their_own_weight() -> None:
    values = np.where(np.arange(40) % 2, 100.0, 0.0)[None, :, None]
    strata = mean_over_seeds(values, ["easy", "hard"] * 20)
    assert (strata.low, strata.mean, strata.high) == (50, 50, 50)
    pooled = mean_over_seeds(values, ["all"] * 40)
    assert half_width(pooled) > 10


def test_a_category_of_one_or_two_prompts_has_a_width() -> None:
    """A bootstrap within such a category has a width of 0, or half the variance."""
    categories = [*["many"] * 6, "one", "two", "two", "other"]
    assert pooled_categories(categories) == ["one", "other", "two"]
    values = np.zeros((1, 10, 1))
    values[0, 6:, 0] = (4.0, -4.0, 4.0, -4.0)
    found = mean_over_seeds(values, categories)
    # The pooled four: sample variance 64/3, weight 0.4, so the root of 0.4^2 * 64/3 / 4.
    deviation = math.sqrt(0.4**2 * (64 / 3) / 4)
    assert half_width(found) == pytest.approx(stats.t.ppf(0.975, 3) * deviation, rel=1e-9)


def test_small_categories_are_pooled_until_they_are_enough() -> None:
    assert pooled_categories(["a"] * SMALL + ["b"] * SMALL) == []
    # One small category alone takes the next smallest one in.
    assert pooled_categories(["a"] * 9 + ["b"] * 5 + ["c"]) == ["b", "c"]
    assert pooled_categories(["a"] * 9 + ["b"] * 2 + ["c"] * 2) == ["b", "c"]
    assert pooled_categories(["a"]) == []  # nothing to pool it with


def test_a_single_number_has_no_interval() -> None:
    for found in (mean_over_seeds(np.full((1, 1, 4), 7.0), ["a"]), over_seeds([7.0])):
        assert found.mean == 7
        for value in (found.low, found.high, found.p_value, found.detectable):
            assert math.isnan(value)
        written = found.to_json(tested=True)
        assert [written[key] for key in ("low", "high", "p_value", "detectable")] == [None] * 4


# Shares of seeds, prompts within categories, and cells in the variance, and the least and the
# greatest that 2,000 draws may show: 0.95 with three standard errors of 0.5 % around, and above
# them room for variances that a floor keeps from falling below one component.
@pytest.mark.parametrize(
    ("spread", "most"),
    [((0.0, 1.0, 0.2), 0.965), ((0.3, 0.6, 0.7), 0.97), ((0.0, 0.0, 1.0), 0.995)],
)
@pytest.mark.parametrize("seeds", [5, 10])
def test_intervals_cover_the_truth(spread: tuple[float, ...], most: float, seeds: int) -> None:
    rng = np.random.default_rng(8)
    categories = [
        name for name, count in zip("abc", (5, 17, 18), strict=True) for _ in range(count)
    ]
    shape = (2000, seeds, len(categories))
    values = spread[0] * rng.normal(size=(2000, seeds, 1))
    values = values + spread[1] * rng.normal(size=(2000, 1, len(categories)))
    values = values + spread[2] * rng.normal(size=shape)
    variance, freedom = variances_of_means(values, categories)
    reach = stats.t.ppf(0.975, freedom) * np.sqrt(variance)
    covered = float((np.abs(values.mean(axis=(1, 2))) <= reach).mean())
    assert 0.935 <= covered <= most


def test_the_difference_that_is_named_is_told_in_four_of_five() -> None:
    rng = np.random.default_rng(9)
    categories = ["a"] * 40

    def draw() -> np.ndarray:
        values = 0.1 * rng.normal(size=(5, 1)) + rng.normal(size=(1, 40))
        return values + 0.5 * rng.normal(size=(5, 40))

    size = float(np.median([mean_over_seeds(draw(), categories).detectable for _ in range(200)]))
    told = sum(mean_over_seeds(draw() + size, categories).p_value < 0.05 for _ in range(1000))
    # 800 with a standard error of 13; the size itself is estimated, which costs a little.
    assert 750 <= told <= 850


def test_a_shared_spread_leaves_the_paired_difference() -> None:
    shared = 5 * np.random.default_rng(10).normal(size=(3, 30, 2))
    paired = paired_difference(shared + 1, shared, ["a"] * 30)
    assert half_width(paired) < 1e-9 < half_width(mean_over_seeds(shared, ["a"] * 30))


def test_the_ratio_is_the_mean_of_the_seeds_ratios() -> None:
    before, after = np.random.default_rng(11).uniform(1, 2, size=(2, 3, 20))
    found = paired_ratio(before, after, ["a"] * 20)
    assert found.by_seed == pytest.approx(after.mean(1) / before.mean(1), rel=1e-12)
    assert found.mean == pytest.approx(np.mean(found.by_seed), rel=1e-12)


def test_the_ratio_s_interval_is_that_of_its_values_pushed_by_hand() -> None:
    """The delta method against finite differences: each value moved by a little."""
    before, after = np.random.default_rng(12).uniform(1, 2, size=(2, 1, 6))
    step, influence = 1e-6, np.zeros(6)
    for place in range(6):
        for table, own in ((before, before[0, place]), (after, after[0, place])):
            # The mean's share of one prompt is 1/6: moved towards its mean it counts in full.
            moved = table.copy()
            moved[0, place] += step * (own - table.mean())
            pair = (moved, after) if table is before else (before, moved)
            rise = pair[1].mean() / pair[0].mean() - after.mean() / before.mean()
            influence[place] += 6 * rise / step
    expected = mean_over_seeds(after.mean() / before.mean() + influence[None], ["a"] * 6)
    found = paired_ratio(before, after, ["a"] * 6)
    assert half_width(found) == pytest.approx(half_width(expected), rel=1e-4)  # the step's size


def test_a_handful_of_values_keeps_a_degree_of_freedom() -> None:
    # V_A, V_B and V_E are all but equal here: var^2 over their squares is 1/3, and may be 0.
    values = np.array([[0.0, 0.0], [0.0, 1.0]])
    found = mean_over_seeds(values, ["a"] * 2)
    reach = stats.t.ppf(0.975, 1) * math.sqrt(1 / 16)
    assert (found.low, found.high) == pytest.approx((0.25 - reach, 0.25 + reach))
    draws = np.random.default_rng(0).normal(size=(2000, 2, 2))
    _, freedom = variances_of_means(draws, ["a"] * 2)
    assert freedom.min() == 1


def test_holm_as_worked_by_hand() -> None:
    # Sorted .01 .02 .03 .04 times 4 3 2 1 is .04 .06 .06 .04; the running maximum .04 .06 .06 .06.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06], abs=1e-15)
    assert holm([0.9, 0.5]) == [1, 1]
    assert holm([0.2]) == [0.2] and holm([]) == []


def test_prompts_without_a_value_leave_every_table() -> None:
    first, second = np.zeros((2, 4, 3)), np.ones((2, 4))
    first[1, 0, 2], second[0, 3] = math.nan, math.inf
    kept = complete_prompts([first, second], ["a", "b", "c", "d"])
    assert kept is not None
    assert kept[1] == ["b", "c"] and [table.shape for table in kept[0]] == [(2, 2, 3), (2, 2)]
    assert complete_prompts([np.full((1, 2), math.nan)], ["a", "b"]) is None


def test_refuses_values_that_are_no_numbers_and_shapes_that_disagree() -> None:
    values = np.zeros((2, 3, 2))
    values[1, 2, 0] = math.nan
    with pytest.raises(AdrpoError, match=r"received nan for seed 1, prompt 2, image 0"):
        mean_over_seeds(values, ["a"] * 3)
    with pytest.raises(AdrpoError, match="2 categories"):
        mean_over_seeds(np.zeros((2, 3, 2)), ["a"] * 2)
    with pytest.raises(AdrpoError, match=r"\[2, 3, 2\] and \[3, 3, 2\]"):
        paired_difference(np.zeros((2, 3, 2)), np.zeros((3, 3, 2)), ["a"] * 3)
    with pytest.raises(AdrpoError, match="use paired_difference"):
        paired_ratio(np.zeros((2, 3)), np.ones((2, 3)), ["a"] * 3)
    with pytest.raises(AdrpoError, match="one finite number per seed"):
        over_seeds([1.0, math.nan])
    assert math.isnan(standard_error([7.0]))

"""Rewards at an equal price: exact where the law is known, and their interval by finite
differences."""

import numpy as np
import pytest

from adrpo.comparison.equal_price import (
    Course,
    at_equal_price,
    common_prompts,
    first_reached,
    spent_by_all,
)
from adrpo.comparison.trade_offs import of_one_base
from adrpo.evaluation.intervals import mean_over_seeds

CATEGORIES = ["a"] * 6


def course(speed: float, gain: float, seeds: int = 2, *, spread: float = 0.0) -> Course:
    """Reward ``gain`` h and divergence h^2 after h = speed x (0, 1, 2, 3), seeds 10 % apart."""
    rng = np.random.default_rng(0)
    h = speed * np.arange(4.0)[None, :, None] * (1 + 0.1 * np.arange(seeds))[:, None, None]
    h = h * (1 + spread * rng.uniform(-1, 1, size=(seeds, 4, 6)))
    return Course(5.0 + gain * h, h**2)


def test_a_reward_that_grows_like_the_root_is_read_exactly() -> None:
    level = 2.0
    found = at_equal_price(course(1.0, 3.0), course(2.0, 1.0), level, CATEGORIES, root=True)
    # Any step length: 5 + gain sqrt(level), so that the lead is 2 sqrt(level).
    assert found.ours.mean == pytest.approx(5 + 3 * level**0.5, rel=1e-12)
    assert found.difference.mean == pytest.approx(2 * level**0.5, rel=1e-12)
    # The chord in the divergence itself reads too little, and less of the longer step.
    chord = at_equal_price(course(1.0, 3.0), course(2.0, 1.0), level, CATEGORIES, root=False)
    assert chord.ours.mean < found.ours.mean and chord.theirs.mean < found.theirs.mean
    assert chord.difference.mean > found.difference.mean


def test_equal_laws_differ_by_nothing_whatever_their_speed() -> None:
    fast, slow = course(4.0, 1.5), course(0.5, 1.5)
    level = spent_by_all((fast, slow), 1.0)
    assert level == pytest.approx((0.5 * 3) ** 2)  # the slower one's slower seed
    found = at_equal_price(fast, slow, level, CATEGORIES, root=True)
    assert found.difference.mean == pytest.approx(0, abs=1e-12)
    assert found.short == (0, 0)


def test_a_diversity_is_read_along_its_own_axis() -> None:
    kept = np.array([1.0, 0.9, 0.7, 0.8])[None, :, None] * np.ones((1, 4, 6))
    reward = np.array([10.0, 12.0, 20.0, 30.0])[None, :, None] * np.ones((1, 4, 6))
    own = Course(reward, kept)
    for level, expected in ((0.8, 16), (1.0, 10), (0.9, 12)):
        found = at_equal_price(own, own, level, CATEGORIES, root=False)
        assert found.ours.mean == pytest.approx(expected)
    # Never there: its last evaluation counts, and says so.
    found = at_equal_price(own, own, 0.5, CATEGORIES, root=False)
    assert (found.ours.mean, found.short) == (30, (1, 1))


def test_the_first_crossing_counts_and_the_base_s_own_level() -> None:
    assert first_reached(np.array([0.0, 4.0, 1.0, 9.0]), 1.0, root=True) == (0, 0.5)
    assert first_reached(np.array([1.0, 0.8]), 1.0, root=False) == (0, 0.0)
    assert first_reached(np.array([1.0, 0.8]), 0.5, root=False) is None


def test_the_interval_is_that_of_the_reading_itself() -> None:
    """Each prompt's values moved by a little move the reading as its linearised values say."""
    own = course(1.0, 2.0, spread=0.2)
    level, step = 2.3, 1e-6

    def reading(moved: Course) -> np.ndarray:
        one = at_equal_price(moved, moved, level, CATEGORIES, root=True)
        return np.array(one.ours.by_seed)

    expected = np.empty((2, 6))
    for prompt in range(6):
        moved = Course(*(table.copy() for table in own))
        for table, values in zip(moved, own, strict=True):
            table[:, :, prompt] += step * (values[:, :, prompt] - values.mean(axis=2))
        expected[:, prompt] = reading(own) + 6 * (reading(moved) - reading(own)) / step
    found = at_equal_price(own, own, level, CATEGORIES, root=True).ours
    wanted = mean_over_seeds(expected, CATEGORIES)
    # The finite difference's own error: its step, and rounding over the step.
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), rel=1e-4)


def test_prompts_without_a_value_leave_both() -> None:
    own, other = course(1.0, 1.0), course(1.0, 2.0)
    own.reward[0, 2, 3] = np.nan
    pair = common_prompts(own, other, list("abcdef"))
    assert pair is not None and pair[2] == list("abcef")
    assert pair[1].reward.shape == (2, 4, 5)
    own.price[:] = np.nan
    assert common_prompts(own, other, list("abcdef")) is None


def test_each_seed_keeps_a_share_of_its_own_base() -> None:
    # Seen prompts are each seed's own: the second seed's base draws half as diversely.
    kept = np.array([1.0, 0.9, 0.8])[None, :, None] * np.array([30.0, 15.0])[:, None, None]
    reward = np.array([10.0, 12.0, 20.0])[None, :, None] + np.array([0.0, 4.0])[:, None, None]
    own = Course(reward * np.ones((2, 3, 6)), kept * np.ones((2, 3, 6)))
    level = 0.95 * 22.5
    found = at_equal_price(*[of_one_base(own, 22.5)] * 2, level, CATEGORIES, root=False)
    assert found.ours.by_seed == pytest.approx((11, 15)) and found.short == (0, 0)
    # At one level for both, the second is below it from the start, and never falls to it.
    assert at_equal_price(own, own, 25.0, CATEGORIES, root=False).short == (1, 1)

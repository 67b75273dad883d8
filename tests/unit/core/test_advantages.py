"""Group advantages: identities, exclusions and degenerate groups."""

import math
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adrpo import clip_advantages, group_advantages
from adrpo.config.algorithm_keys import Scale
from adrpo.core.advantages import AdvantageScale, favor_novelty, shape_advantages

SCALES: tuple[AdvantageScale, ...] = get_args(AdvantageScale)
scales = pytest.mark.parametrize("scale", SCALES)

GROUPS = torch.tensor([4, 4, 4, 4, 0, 0, 0, 9, 9, 9])


def rewards(seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 25 + 3 * torch.randn(len(GROUPS), generator=generator, dtype=dtype)


def test_by_hand() -> None:
    # group 0: mean 2, deviations -1 0 1; group 1: mean 5, deviations -3 3.
    values, groups = torch.tensor([1.0, 2.0, 2.0, 8.0, 3.0]), torch.tensor([0, 0, 1, 1, 0])
    assert group_advantages(values, groups).tolist() == [-1, 0, -3, 3, 1]
    # population standard deviations: sqrt(2/3) and 3.
    r = math.sqrt(3 / 2)
    expected = torch.tensor([-r, 0, -1, 1, r])
    # float32 rounding.
    torch.testing.assert_close(
        group_advantages(values, groups, scale="group"), expected, rtol=1e-6, atol=0
    )
    # pooled: sqrt((1 + 0 + 9 + 9 + 1) / 5) = 2.
    assert group_advantages(values, groups, scale="batch").tolist() == [-0.5, 0, -1.5, 1.5, 0.5]
    # around the batch's mean, 3.2: 2.2^2 + 1.2^2 + 1.2^2 + 4.8^2 + 0.2^2 = 30.8, of five.
    expected = torch.tensor([-1, 0, -3, 3, 1]) / math.sqrt(30.8 / 5)
    received = group_advantages(values, groups, scale="global")
    torch.testing.assert_close(received, expected, rtol=1e-6, atol=0)


@scales
def test_group_means_are_zero(scale: AdvantageScale) -> None:
    advantages = group_advantages(rewards(), GROUPS, scale=scale)
    for group in GROUPS.unique():
        # float64 rounding of values of size 10.
        assert advantages[group == GROUPS].mean().item() == pytest.approx(0, abs=1e-14)
    assert advantages.abs().min() > 0


@pytest.mark.parametrize("scale", [scale for scale in SCALES if scale != "global"])
def test_a_constant_added_to_one_group_changes_nothing(scale: AdvantageScale) -> None:
    base = group_advantages(rewards(), GROUPS, scale=scale)
    shift = torch.where(GROUPS == 4, 700.0, torch.where(GROUPS == 0, -30.0, 0.0))
    shifted = group_advantages(rewards() + shift, GROUPS, scale=scale)
    # The shifted rewards themselves are rounded at 1e-13.
    torch.testing.assert_close(shifted, base, rtol=0, atol=1e-12)


def test_the_global_scale_is_the_deviation_of_all_rewards() -> None:
    """torch's own, of whatever the group: the formula of Flow-GRPO's code but for its epsilon."""
    values = rewards()
    means = torch.stack([values[GROUPS == group].mean() for group in GROUPS])
    expected = (values - means) / values.std(correction=0)
    received = group_advantages(values, GROUPS, scale="global")
    # float64 rounding.
    torch.testing.assert_close(received, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shift", [-9.0, 0.5, 40.0])
def test_differences_between_groups_shrink_global_advantages_alone(shift: float) -> None:
    """Variances add up: of all rewards it is the pooled one within groups, which a constant added
    to one group leaves alone, and the one of the groups' means."""
    values = rewards() + torch.where(GROUPS == 4, shift, 0.0)
    within = group_advantages(values, GROUPS, scale="batch")
    pooled = group_advantages(values, GROUPS).square().mean()
    means = torch.stack([values[GROUPS == group].mean() for group in GROUPS])
    factor = (pooled / (pooled + means.var(correction=0))).sqrt()
    assert factor < 0.99
    received = group_advantages(values, GROUPS, scale="global")
    # float64 rounding.
    torch.testing.assert_close(received, factor * within, rtol=1e-12, atol=0)


def test_of_one_group_all_scales_are_one() -> None:
    one = torch.zeros_like(GROUPS)
    expected = group_advantages(rewards(), one, scale="group")
    for scale in ("batch", "global"):
        # The same numbers in the same order.
        assert torch.equal(group_advantages(rewards(), one, scale=scale), expected)


@pytest.mark.parametrize("scale", ["group", "batch"])
def test_scaled_advantages_have_mean_square_one_whatever_the_unit(scale: AdvantageScale) -> None:
    base = group_advantages(rewards(), GROUPS, scale=scale)
    scaled = group_advantages(rewards() * 1e-3, GROUPS, scale=scale)
    # float64; 1e-3 is not a binary number.
    torch.testing.assert_close(scaled, base, rtol=1e-11, atol=0)
    pools = [GROUPS == group for group in GROUPS.unique()] if scale == "group" else [GROUPS >= 0]
    for pool in pools:
        assert base[pool].square().mean().item() == pytest.approx(1, rel=1e-14)


@scales
@given(data=st.data())
@settings(max_examples=30, deadline=None, derandomize=True)
def test_permutation_and_names_of_groups_do_not_matter(scale: AdvantageScale, data: Any) -> None:
    order = torch.tensor(data.draw(st.permutations(range(len(GROUPS)))))
    base = group_advantages(rewards(), GROUPS, scale=scale)
    permuted = group_advantages(rewards()[order], -3 * GROUPS[order], scale=scale)
    # Sums in another order: float64 rounding.
    torch.testing.assert_close(permuted, base[order], rtol=0, atol=1e-13)


@scales
@pytest.mark.parametrize("value", [0.1, 1 / 3, 27.3, -1e8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_rewards_give_exactly_zero(
    scale: AdvantageScale, value: float, dtype: torch.dtype
) -> None:
    # Seven times 0.1, summed and divided by seven, is not 0.1: a plain mean fails here.
    values = torch.full((10,), value, dtype=dtype)
    values[7:] = torch.tensor([value + 1, value + 2, value + 8], dtype=dtype)
    groups = torch.tensor([1] * 7 + [2] * 3)
    advantages = group_advantages(values, groups, scale=scale)
    assert torch.equal(advantages[:7], torch.zeros(7, dtype=dtype))
    if abs(value) < 1e6:
        assert advantages[7:].abs().min() > 0


@scales
def test_groups_of_one_give_exactly_zero(scale: AdvantageScale) -> None:
    values = torch.tensor([3.3, -7.1, 0.0])
    assert group_advantages(values, torch.arange(3), scale=scale).tolist() == [0, 0, 0]


def test_rounding_noise_is_not_scaled_up() -> None:
    one = torch.tensor(27.3)
    next_to_it = torch.nextafter(one, torch.tensor(100.0))
    values = torch.stack([one, next_to_it, one, one])
    for scale in ("group", "batch", "global"):
        advantages = group_advantages(values, torch.zeros(4, dtype=torch.int64), scale=scale)
        assert advantages.tolist() == [0, 0, 0, 0]


@scales
@pytest.mark.parametrize("missing", [math.nan, math.inf, -math.inf])
def test_samples_without_a_reward_count_for_nothing(scale: AdvantageScale, missing: float) -> None:
    kept = torch.ones(len(GROUPS), dtype=torch.bool)
    kept[[1, 4, 5]] = False
    values = rewards()
    values[~kept] = missing
    advantages = group_advantages(values, GROUPS, scale=scale)
    assert torch.equal(advantages[~kept], torch.zeros(3, dtype=torch.float64))
    without = group_advantages(values[kept], GROUPS[kept], scale=scale)
    # Group 0 is left with one sample, which is a group of one.
    assert advantages[6] == 0
    # The same sums: float64 rounding.
    torch.testing.assert_close(advantages[kept], without, rtol=0, atol=1e-14)


@scales
def test_a_batch_without_any_reward_is_all_zero(scale: AdvantageScale) -> None:
    values = torch.full((4,), math.nan)
    advantages = group_advantages(values, torch.tensor([0, 0, 1, 1]), scale=scale)
    assert advantages.tolist() == [0, 0, 0, 0]


def test_a_configuration_knows_the_same_scales() -> None:
    assert get_args(Scale) == SCALES


def test_low_precision_rewards_are_averaged_in_float32() -> None:
    values = torch.tensor([256.0, 258.0, 258.0], dtype=torch.bfloat16)
    advantages = group_advantages(values, torch.zeros(3, dtype=torch.int64))
    assert advantages.dtype == torch.float32
    # The mean, 257 1/3, is no bfloat16 number; float32 rounding.
    torch.testing.assert_close(advantages, torch.tensor([-4 / 3, 2 / 3, 2 / 3]))


def test_no_gradient_flows_into_rewards() -> None:
    values = rewards().requires_grad_()
    assert not group_advantages(values, GROUPS, scale="group").requires_grad


def test_clipping_bounds_and_detaches() -> None:
    advantages = torch.tensor([-3.0, -0.5, 0.0, 0.25, 7.0], requires_grad=True)
    clipped = clip_advantages(advantages, low=-1.0, high=0.5)
    assert clipped.tolist() == [-1.0, -0.5, 0.0, 0.25, 0.5]
    assert not clipped.requires_grad
    with pytest.raises(ValueError, match="low <= high"):
        clip_advantages(advantages, low=1.0, high=-1.0)


def test_a_bent_advantage_keeps_sign_and_order_and_gamma_0_is_plain():
    advantages = torch.tensor([-2.0, -0.5, 0.0, 0.5, 1.0, 3.0])
    assert torch.equal(shape_advantages(advantages, gamma=0.0), advantages)
    bent = shape_advantages(advantages, gamma=0.5)
    # 2^1.5, 0.5^1.5, 3^1.5.
    expected = [-2.8284271, -0.3535534, 0.0, 0.3535534, 1.0, 5.1961524]
    assert bent.tolist() == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="expected gamma >= 0"):
        shape_advantages(advantages, gamma=-0.1)


def test_novelty_is_shared_out_among_the_good_samples_of_a_prompt_alone():
    advantages = torch.tensor([1.0, 1.0, -1.0, 2.0, -2.0])
    groups = torch.tensor([0, 0, 0, 1, 1])
    novelty = torch.tensor([1.0, 3.0, 2.0, math.nan, 5.0])
    got = favor_novelty(advantages, novelty, groups)
    # Means 2 and, of the one that is known, 5; a sample without a novelty keeps its A.
    assert got.tolist() == [0.5, 1.5, -1.0, 2.0, -2.0]
    assert torch.equal(favor_novelty(advantages, 10 * novelty, groups), got)
    assert torch.equal(favor_novelty(advantages, torch.zeros(5), groups), advantages)

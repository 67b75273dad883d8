"""Advantages: how much better a sample is than the others of its prompt."""

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

AdvantageScale = Literal["none", "group", "batch", "global"]


def clip_advantages(
    advantages: Float[Tensor, " batch"], *, low: float, high: float
) -> Float[Tensor, " batch"]:
    """Bound advantages to [A_min, A_max] = [``low``, ``high``] (arXiv 2510.18053).

    The result is detached, in float32 (float64 stays float64). ``flow_objective`` needs the same
    clipped advantages in both of its terms, so clip once and pass the result to both.

    Raises:
        ValueError: ``low`` > ``high``.
    """
    if low > high:
        raise ValueError(f"expected low <= high, received low={low}, high={high}")
    dtype = torch.promote_types(advantages.dtype, torch.float32)
    return advantages.detach().to(dtype).clamp(low, high)


@torch.no_grad()
def group_advantages(
    rewards: Float[Tensor, " batch"],
    group_ids: Int[Tensor, " batch"],
    *,
    scale: AdvantageScale = "none",
) -> Float[Tensor, " batch"]:
    """A = R - V, with V the mean reward of the sample's group (arXiv 2510.18053, Algorithm 1).

        none    A_i = R_i - V_g
        group   A_i = (R_i - V_g) / sqrt(mean over the group of (R - V_g)^2)
        batch   A_i = (R_i - V_g) / sqrt(mean over the batch of (R - V_g)^2)
        global  A_i = (R_i - V_g) / sqrt(mean over the batch of (R - mean of the batch)^2)

    All scales are population standard deviations (the sum is divided by the number of samples,
    not by one less), so that the mean square of a scaled group, or batch, is exactly 1. ``batch``
    pools the spread *within* groups: as at ``none`` and ``group``, a constant added to one
    prompt's rewards changes nothing. ``global`` is the spread of all rewards, *between* groups,
    too, as in the code of Flow-GRPO (arXiv 2505.05470), DiffusionNFT and AWM, which is their
    ``global_std``: the more prompts differ in their rewards, the smaller are its advantages. Its
    square is that of ``batch`` and the variance of the groups' means together.

    A reward that is not finite marks a sample that was not scored: it stays out of every mean and
    standard deviation, and its advantage is 0. A group of one and a group of equal rewards have
    advantage exactly 0. No epsilon is added to a standard deviation; one within the rounding of
    the rewards themselves counts as zero instead, and so never inflates noise to +-1.

    Args:
        rewards: R, one per sample, in the reward's own units.
        group_ids: integers; samples with equal ids are compared with one another. Equal prompts
            in two groups stay apart.
        scale: the divisor, above. With clipping to +-1 it decides how often the clip is reached.

    Returns:
        Advantages, detached, in float32 (float64 stays float64).

    Raises:
        ValueError: ``scale`` is none of the four.

    >>> group_advantages(torch.tensor([3.0, 1.0, 5.0, 5.0]), torch.tensor([0, 0, 1, 1]))
    tensor([ 1., -1.,  0.,  0.])
    """
    if scale not in get_args(AdvantageScale):
        raise ValueError(f"expected scale 'none', 'group', 'batch' or 'global', received {scale!r}")
    resolution = torch.finfo(rewards.dtype).eps
    rewards = rewards.to(torch.promote_types(rewards.dtype, torch.float32))
    scored = rewards.isfinite()
    groups = _group_index(group_ids)
    advantages = _above_mean(rewards, groups, scored)
    if scale == "none":
        return advantages

    # One group holds the whole batch: its mean is the batch's.
    pool = groups if scale == "group" else torch.zeros_like(groups)
    spread = _above_mean(rewards, pool, scored) if scale == "global" else advantages
    deviation = _group_mean(spread.square(), pool, scored).sqrt()
    magnitude = torch.where(scored, rewards.abs(), 0)
    greatest = torch.zeros_like(rewards).scatter_reduce(0, pool, magnitude, "amax")[pool]
    noise = deviation <= resolution * greatest
    return torch.where(noise, 0, advantages / torch.where(noise, 1, deviation))


def shape_advantages(advantages: Float[Tensor, " batch"], *, gamma: float) -> Tensor:
    """The advantages of SLAS, sign(A) |A|^(1 + gamma), [batch] (arXiv 2605.10937); gamma 0 is A.

    A larger gamma learns more from the samples that stand out, where |A| > 1, and less from the
    others: A is in standard deviations there, those of the batch. Detached.

    Raises:
        ValueError: ``gamma`` is negative.

    >>> shape_advantages(torch.tensor([2.0, -0.5, 0.0]), gamma=1.0)
    tensor([ 4.0000, -0.2500,  0.0000])
    """
    if gamma < 0:
        raise ValueError(f"expected gamma >= 0, received {gamma}")
    advantages = advantages.detach()
    return advantages if gamma == 0 else advantages * advantages.abs() ** gamma


@torch.no_grad()
def favor_novelty(
    advantages: Float[Tensor, " batch"],
    novelty: Float[Tensor, " batch"],
    group_ids: Int[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """Advantages of which good ones count more where the sample is unlike the others, [batch].

        A novelty / (mean novelty of the group) where A > 0, else A     (GARDO, arXiv 2512.24138)

    Args:
        advantages: A, one per sample.
        novelty: how unlike the others of its prompt a sample is, >= 0; GARDO: 1 - cos of its
            feature to the nearest one's. A sample without a novelty, and a group whose mean is 0,
            keep their A.
        group_ids: as for ``group_advantages``.

    >>> A = torch.tensor([1.0, 1.0, -2.0])
    >>> favor_novelty(A, torch.tensor([3.0, 1.0, 5.0]), torch.tensor([0, 0, 0]))
    tensor([ 1.0000,  0.3333, -2.0000])
    """
    novelty = novelty.to(advantages)
    known = novelty.isfinite()
    mean = _group_mean(novelty, _group_index(group_ids), known)
    changed = known & (mean > 0) & (advantages > 0)
    return torch.where(changed, advantages * novelty / mean.where(mean > 0, 1), advantages)


def _group_index(group_ids: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
    """Any integers -> 0 ... groups - 1."""
    # torch leaves `unique` untyped.
    return torch.unique(group_ids, return_inverse=True)[1]  # pyright: ignore


def _above_mean(
    rewards: Float[Tensor, " batch"], groups: Int[Tensor, " batch"], scored: Bool[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Rewards less the mean of their group; 0 for a sample that was not scored."""
    # Measured from the group's least reward, equal rewards are exactly 0, whatever their
    # number, and a large common offset costs no precision.
    above = torch.where(scored, rewards - _group_least(rewards, groups, scored), 0)
    return torch.where(scored, above - _group_mean(above, groups, scored), 0)


def _group_least(
    values: Float[Tensor, " batch"], groups: Int[Tensor, " batch"], scored: Bool[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    candidates = torch.where(scored, values, torch.inf)
    least = torch.full_like(values, torch.inf).scatter_reduce(0, groups, candidates, "amin")
    return least[groups]


def _group_mean(
    values: Float[Tensor, " batch"], groups: Int[Tensor, " batch"], scored: Bool[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Mean over the scored samples of each sample's group; 0 where none was scored."""
    totals = torch.zeros_like(values).index_add(0, groups, torch.where(scored, values, 0))
    counts = torch.zeros_like(values).index_add(0, groups, scored.to(values.dtype))
    return (totals / counts.clamp(min=1))[groups]

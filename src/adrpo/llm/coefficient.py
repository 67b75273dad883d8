"""The KL coefficient of each sample, and what decides it. Pure functions."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from adrpo.config.llm_options import CoefficientKind
from adrpo.core import adaptive_coefficient


def kl_coefficient(
    advantages: Float[Tensor, " rows *tokens"],
    *,
    kind: CoefficientKind,
    beta_0: float,
    clip: float,
    floor: bool,
) -> Float[Tensor, " rows *tokens"]:
    """The factor of the KL term, one per sample (or per token, where A is).

        adaptive     beta = beta_0 - clip(A, -c, c)     (eq. 7, arXiv 2510.18053)
        sign_gated   beta = beta_0 (1 - sign A)         0, beta_0 or 2 beta_0
        fixed        beta = beta_0                      stock GRPO

    Advantages standardised within a group are of size 1, so that at the paper's c = beta_0 = 0.04
    nearly all of them reach the clip, and ``adaptive`` is nearly ``sign_gated``: the null model,
    which knows the sign of A alone.

    Args:
        advantages: A, in GRPO's units.
        kind: which of the three.
        beta_0: the coefficient at A = 0; positive.
        clip: c, the greatest |A| in the coefficient.
        floor: whether a negative coefficient counts as 0; c > beta_0 makes them.

    Returns:
        Coefficients, detached, in float32 (float64 stays float64), shaped like ``advantages``.
    """
    dtype = torch.promote_types(advantages.dtype, torch.float32)
    advantages = advantages.detach().to(dtype)
    if kind == "fixed":
        return torch.full_like(advantages, beta_0)
    if kind == "sign_gated":
        return beta_0 * (1 - advantages.sign())
    flat = adaptive_coefficient(advantages.flatten(), beta_0=beta_0, clip=(-clip, clip))
    coefficient = flat.view_as(advantages)
    return coefficient.clamp(min=0) if floor else coefficient


def degenerate_rows(
    rewards: Float[Tensor, "rows terms"], *, group_size: int
) -> Bool[Tensor, " rows"]:
    """Mask of the rows whose group has no variance: all its scored rewards are equal.

    Decided from the rewards: equal rewards leave rounding noise in A, and dividing that by a spread
    near 0 would turn it into +-1. Samples without a score (NaN) do not count; a
    group without any score has no variance.

    Args:
        rewards: one column where their sum is what the advantages are made of, one per reward
            where each is standardised by itself.
        group_size: samples of a prompt, which are neighbours.
    """
    groups = rewards.view(-1, group_size, rewards.shape[1])
    unscored = groups.isnan()
    least = groups.masked_fill(unscored, torch.inf).amin(dim=1)
    greatest = groups.masked_fill(unscored, -torch.inf).amax(dim=1)
    return (greatest <= least).all(dim=1).repeat_interleave(group_size)

"""The KL coefficient of each sample, and what decides it. Pure functions."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from adrpo.config.llm_options import REWARD_ADAPTIVE_LEAST, CoefficientKind
from adrpo.core import schedules
from adrpo.core.schedules import Schedule, StepSamples


def kl_coefficient(
    advantages: Float[Tensor, " rows *tokens"],
    *,
    kind: CoefficientKind,
    beta_0: float,
    clip: float,
    floor: bool,
) -> Float[Tensor, " rows *tokens"]:
    """The factor of the KL term, one per sample (or per token, where A is).

        adaptive          beta = beta_0 - clip(A, -c, c)          (eq. 7, arXiv 2510.18053)
        sign_gated        beta = beta_0 (1 - sign A)              0, beta_0 or 2 beta_0
        reward_adaptive   beta = 1e-4 + (beta_0 - 1e-4) r         r = (clip(A, -c, c) / c + 1) / 2
        fixed             beta = beta_0                           stock GRPO

    The schedules are those of every domain (:mod:`adrpo.core.schedules`).
    Advantages standardised within a group are of size 1, so that at the paper's c = beta_0 = 0.04
    nearly all of them reach the clip, and ``adaptive`` is nearly ``sign_gated``: the null model,
    which knows the sign of A alone.

    Args:
        advantages: A, in GRPO's units.
        kind: which of the four.
        beta_0: the coefficient at A = 0; positive.
        clip: c, the greatest |A| in the coefficient.
        floor: whether a negative coefficient counts as 0; c > beta_0 makes them.

    Returns:
        Coefficients, detached, in float32 (float64 stays float64), shaped like ``advantages``.
    """
    keys: dict[CoefficientKind, dict[str, Any]] = {
        "adaptive": {"clip": (-clip, clip)},
        "reward_adaptive": {"bound": clip, "least": REWARD_ADAPTIVE_LEAST},
    }
    flat = advantages.detach().flatten()
    samples = StepSamples(advantages=flat, rewards=flat)
    schedule: Schedule = getattr(schedules, kind)
    coefficient, _ = schedule(samples, {}, beta_0=beta_0, **keys.get(kind, {}))
    coefficient = coefficient.view_as(advantages)
    return coefficient.clamp(min=0) if floor else coefficient


def edited_coefficient(
    batch: Mapping[str, Any],
    coefficient_of: Callable[[Tensor], Tensor],
    *,
    beta_0: float,
    on_degenerate_groups: bool,
) -> tuple[Tensor, Tensor]:
    """The advantages that the coefficient of a loss follows, and the coefficient.

    They are those that the batch was scored with, where its ``advantages`` and beta_0 are still
    ``scored_advantages`` and ``scored_beta``. What a subclass or a callback has changed since is
    followed: an edited advantage gives its sample a new coefficient, another beta_0 gives all
    samples one.

    Args:
        batch: of the loss; where it has no ``kl_coefficient``, a subclass scored in its own way.
        coefficient_of: advantages -> coefficients at ``beta_0``.
        beta_0: the coefficient at A = 0, now.
        on_degenerate_groups: whether samples without a policy gradient have a KL term.

    Returns:
        Both shaped like ``advantages``: [rows], or [rows, tokens] where a subclass has A per token.
    """
    advantages = batch["advantages"]
    if "kl_coefficient" not in batch:
        return advantages, coefficient_of(advantages)
    kept, coefficient = batch.get("kl_advantages", advantages), batch["kl_coefficient"]
    scored = batch.get("scored_advantages")
    if scored is None:
        return kept, coefficient
    if scored.shape != advantages.shape:
        return advantages, coefficient_of(advantages)
    edited = scored != advantages
    moved = bool((batch["scored_beta"] != beta_0).any())
    if not (moved or edited.any()):
        return kept, coefficient
    kept = torch.where(edited, advantages, kept)
    fresh = coefficient_of(kept)
    if not moved:
        return kept, torch.where(edited, fresh, coefficient)
    # A sample that was left out of the KL, at A = 0, stays out.
    left_out = (kept == 0) & (coefficient == 0) & ~edited
    return kept, fresh if on_degenerate_groups else fresh.masked_fill(left_out, 0)


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

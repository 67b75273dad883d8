"""Schedules of the penalty's coefficient: how tightly each sample is held to the reference.

A schedule is a pure function (samples, state) -> (beta [batch], state) around a ``beta_0``. The
published answers differ in what they read and in the direction:

    fixed             beta = beta_0                                   every sample alike
    adaptive          beta = beta_0 - A                               good samples loosely
    sign_gated        beta = beta_0 (1 - sign A)                      the same by the sign of A
    reward_adaptive   beta = least + (beta_0 - least) r(A)            good samples tightly
    gated             beta = beta_0 batch / gated, or 0               what others don't confirm
    mixture           beta = sum of w_k beta_k / sum of w_k           of any of these

beta has the unit of the loss's own weight over that of its divergence, as beta_0 has; A has the
unit in which the loss weighs samples by it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from adrpo.core.advantages import clip_advantages
from adrpo.core.coefficient import adaptive_coefficient

State = Mapping[str, Any]
"""The memory of a schedule from step to step: JSON values, kept in checkpoints."""


@dataclass(frozen=True, kw_only=True)
class StepSamples:
    """The samples of one step as a schedule reads them, each [batch] and a constant.

    ``advantages``: A in the unit in which the loss weighs samples by it, 0 for a sample without
    a score. ``rewards``: R, not finite for a sample without a score. ``scores``: what other
    scorers say of the same samples, by their names, greater being better.
    """

    advantages: Tensor
    rewards: Tensor
    scores: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])


Schedule = Callable[..., tuple[Tensor, State]]
"""(samples, state, *, beta_0, ...) -> (beta [batch], the next state)."""


def fixed(samples: StepSamples, state: State, *, beta_0: float) -> tuple[Tensor, State]:
    """The fixed penalty, beta = beta_0 for every sample (arXiv 2510.18053, eq. 2); 0 is none.

    >>> A = torch.tensor([2.0, -2.0])
    >>> fixed(StepSamples(advantages=A, rewards=A), {}, beta_0=0.5)[0]
    tensor([0.5000, 0.5000])
    """
    return _like(samples.advantages).fill_(beta_0), state


def adaptive(
    samples: StepSamples, state: State, *, beta_0: float, clip: tuple[float, float] | None
) -> tuple[Tensor, State]:
    """ADRPO's coefficient, beta = beta_0 - clip(A) (arXiv 2510.18053, eq. 4): good samples loosely.

    Args:
        samples: of the step; A in the loss's unit, which is beta_0's, too.
        state: none is kept.
        beta_0: the coefficient at A = 0; positive.
        clip: (low, high) of A in the coefficient alone; None where A is clipped already, in the
            weight as well, as in the anchored regression of the paper.

    >>> A = torch.tensor([2.0, 0.25, -2.0])
    >>> adaptive(StepSamples(advantages=A, rewards=A), {}, beta_0=1.0, clip=(-1.0, 1.0))[0]
    tensor([0.0000, 0.7500, 2.0000])
    """
    return adaptive_coefficient(samples.advantages, beta_0=beta_0, clip=clip), state


def sign_gated(samples: StepSamples, state: State, *, beta_0: float) -> tuple[Tensor, State]:
    """The null model of ``adaptive``, beta = beta_0 (1 - sign A), which is 0, beta_0 or 2 beta_0.

    The adaptive coefficient becomes it once every A reaches the clip +-beta_0. Ours.

    >>> A = torch.tensor([2.0, 0.0, -0.1])
    >>> sign_gated(StepSamples(advantages=A, rewards=A), {}, beta_0=1.0)[0]
    tensor([0., 1., 2.])
    """
    return beta_0 * (1 - _like(samples.advantages).copy_(samples.advantages).sign()), state


def reward_adaptive(
    samples: StepSamples, state: State, *, beta_0: float, bound: float, least: float
) -> tuple[Tensor, State]:
    """The reward-adaptive KL of CRD (arXiv 2603.14128): good samples are held tightly.

        beta = least + (beta_0 - least) r,    r = (clip(A, -c, c) / c + 1) / 2

    It is theirs, kl_beta (m + (1 - m) r) with m = 1e-4 / kl_beta, at beta_0 = kl_beta. Here beta_0
    is the greatest coefficient, and a sample of the average reward has about half of it.

    Args:
        samples: of the step; A in the loss's unit.
        state: none is kept.
        beta_0: the coefficient at A >= c; at least ``least``.
        bound: c, in units of A. CRD: 5, A in standard deviations.
        least: the coefficient at A <= -c. CRD: 1e-4.

    Raises:
        ValueError: ``bound`` is not positive.

    >>> A = torch.tensor([5.0, 0.0, -9.0])
    >>> samples = StepSamples(advantages=A, rewards=A)
    >>> reward_adaptive(samples, {}, beta_0=1.0, bound=5.0, least=0.0)[0]
    tensor([1.0000, 0.5000, 0.0000])
    """
    if bound <= 0:
        raise ValueError(f"expected bound > 0, received {bound}")
    share = (clip_advantages(samples.advantages, low=-bound, high=bound) / bound + 1) / 2
    return least + (beta_0 - least) * share, state


SMALLEST_SHARE, GREATEST_SHARE = 0.02, 0.2
REMEMBERED = 20


def gated(
    samples: StepSamples, state: State, *, beta_0: float, share: float
) -> tuple[Tensor, State]:
    """GARDO's gate: only samples whose reward no other scorer confirms are held (arXiv 2512.24138).

        beta = beta_0 batch / gated for the gated samples, and 0 for the rest
        u = (mean rank by the other scorers - rank by the reward) / samples, rank 1 the best
        gated where u > the (1 - b) quantile of the u >= 0

    Ranks are over the step's scored samples, and equal values share their mean rank. A sample that
    only the reward likes has the greatest u; where all scorers agree, none is gated. With the
    factor batch / gated the mean of beta D over the batch is beta_0 times that over the gated.
    The published code subtracts in the other order; this is the paper's.

    The state is b, ``share``, which starts at the argument and follows the mean m of the u >= 0:
    times 1.1 where m is above all of the last 20 steps', times 0.9 where it is below all of them,
    within [0.02, 0.2]; and these means.

    Args:
        samples: of the step, with at least one other scorer.
        state: {} at first.
        beta_0: the coefficient of the mean over gated samples.
        share: b of the first step. GARDO: 0.1.

    Raises:
        ValueError: no other scorer.

    >>> R = torch.tensor([4.0, 3.0, 2.0, 1.0])
    >>> other = {"other": torch.tensor([2.0, 4.0, 3.0, 1.0])}
    >>> gated(StepSamples(advantages=R, rewards=R, scores=other), {}, beta_0=1.0, share=0.1)[0]
    tensor([4., 0., 0., 0.])
    """
    if not samples.scores:
        raise ValueError("expected scores of at least one other scorer, received none")
    share = state.get("share", share)
    recent: Sequence[float] = state.get("recent", ())
    uncertainty = disagreement(samples.rewards, samples.scores)
    # NaN of a sample without a score is in no comparison.
    doubted = uncertainty[uncertainty >= 0]
    beta = torch.zeros_like(uncertainty)
    if not len(doubted):
        return beta.to(_like(samples.advantages).dtype), {"share": share, "recent": list(recent)}
    chosen = uncertainty > doubted.quantile(1 - share)
    beta[chosen] = beta_0 * len(beta) / max(int(chosen.sum()), 1)
    mean = float(doubted.mean())
    if recent and mean > max(recent):
        share = min(1.1 * share, GREATEST_SHARE)
    elif recent and mean < min(recent):
        share = max(0.9 * share, SMALLEST_SHARE)
    following = {"share": share, "recent": [*recent, mean][-REMEMBERED:]}
    return beta.to(_like(samples.advantages).dtype), following


def disagreement(rewards: Tensor, scores: Mapping[str, Tensor]) -> Tensor:
    """The gate's u = (mean rank by ``scores`` - rank by ``rewards``) / samples, [batch], float64.

    It lies in [-1, 1], and is NaN for a sample that the reward or a scorer has no score for.

    >>> disagreement(torch.tensor([2.0, 1.0]), {"other": torch.tensor([1.0, 2.0])})
    tensor([ 0.5000, -0.5000], dtype=torch.float64)
    """
    scored = rewards.isfinite()
    for values in scores.values():
        scored = scored & values.isfinite()
    found = torch.full(rewards.shape, torch.nan, dtype=torch.float64)
    if not scored.any():
        return found
    others = torch.stack([_ranks(values[scored]) for values in scores.values()]).mean(0)
    found[scored] = (others - _ranks(rewards[scored])) / int(scored.sum())
    return found


def _ranks(values: Float[Tensor, " samples"]) -> Float[Tensor, " samples"]:
    """Rank of each value, 1 for the greatest; equal values share the mean of their ranks."""
    above = (values[None, :] > values[:, None]).sum(1)
    equal = (values[None, :] == values[:, None]).sum(1)
    return above.double() + (equal.double() + 1) / 2


def mixture(
    samples: StepSamples,
    state: State,
    *,
    beta_0: float,
    parts: Sequence[tuple[float, Schedule]],
) -> tuple[Tensor, State]:
    """A weighted mean of schedules, beta = sum of w_k beta_k / sum of w_k, around one beta_0. Ours.

    The state holds that of each part, in order.

    Args:
        samples: of the step.
        state: {} at first.
        beta_0: of every part.
        parts: (w_k > 0, schedule k), the schedule with all of its arguments but these.

    >>> A = torch.tensor([1.0, -1.0])
    >>> from functools import partial
    >>> parts = [(3.0, fixed), (1.0, partial(adaptive, clip=None))]
    >>> mixture(StepSamples(advantages=A, rewards=A), {}, beta_0=1.0, parts=parts)[0]
    tensor([0.7500, 1.2500])
    """
    states: Sequence[State] = state.get("parts", [{} for _ in parts])
    total = sum(weight for weight, _ in parts)
    beta = _like(samples.advantages)
    following: list[State] = []
    for (weight, schedule), own in zip(parts, states, strict=True):
        values, after = schedule(samples, own, beta_0=beta_0)
        beta = beta + weight / total * values
        following.append(after)
    return beta, {"parts": following}


def _like(advantages: Tensor) -> Tensor:
    """Zeros of the shape of ``advantages``, in float32 (float64 stays float64)."""
    dtype = torch.promote_types(advantages.dtype, torch.float32)
    return torch.zeros_like(advantages, dtype=dtype, requires_grad=False)

"""A method of anchored regression: weights of the loss's terms, sample by sample, and the loss."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, final

import torch
from torch import Tensor

from adrpo.coefficient import Coefficient
from adrpo.core import clip_advantages, flow_objective, group_advantages
from adrpo.core.advantages import AdvantageScale
from adrpo.core.schedules import StepSamples
from adrpo.flow.path.path_samples import PathSamples


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Per-sample numbers of one step, all [batch] and constants of the loss

        weight |v - u_t|^2 + beta |v - v_ref|^2

    ``advantages`` is A = R - V(c) in its scale, before the clip; ``clipped`` tells where a clip
    changed it. A sample with weight and beta 0 takes no part in the update.
    """

    advantages: Tensor
    clipped: Tensor
    weight: Tensor
    beta: Tensor

    def select(self, index: Tensor) -> "Weights":
        """The samples ``index`` (integers, repeats allowed)."""
        return self._each(lambda column: column[index])

    def to(self, device: torch.device) -> "Weights":
        """The same numbers on ``device``."""
        return self._each(lambda column: column.to(device))

    def only(self, taken: Tensor) -> "Weights":
        """The same numbers, and weight and beta 0 where ``taken`` [batch] is false."""
        return replace(self, weight=self.weight * taken, beta=self.beta * taken)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Weights":
        return Weights(**{name: change(column) for name, column in vars(self).items()})


class Rows(Protocol):
    """Rows as a loss reads them, one for each point of the path of each sample: the point, and
    the sample's weights."""

    @property
    def path(self) -> PathSamples: ...

    @property
    def weights(self) -> Weights: ...


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a method makes of the rewards of one step, all [batch]; see :class:`Weights`.

    ``level`` is the A that the schedule of the penalty reads, in the unit of ``weight``.
    """

    advantages: Tensor
    clipped: Tensor
    weight: Tensor
    level: Tensor


class Method(ABC):
    """One way to weigh samples, and the loss that it weighs. Each method is a final class.

    ``coefficient`` is the weight of its penalty, and all that a method keeps between steps.
    """

    coefficient: Coefficient

    @abstractmethod
    def terms(self, rewards: Tensor, group_ids: Tensor) -> Terms:
        """What the samples with ``rewards`` [batch] weigh; a sample whose reward is not finite has
        no score and must get weight 0."""

    @abstractmethod
    def loss(self, v: Tensor, v_ref: Tensor, rows: Rows) -> Tensor:
        """Loss of each row, [rows]; only ``v`` carries a gradient."""

    @final
    def weigh(
        self, rewards: Tensor, group_ids: Tensor, scores: Mapping[str, Tensor] | None = None
    ) -> Weights:
        """The weights of a step's samples; called once for each step.

        Args:
            rewards: R, [batch]; not finite for a sample without a score.
            group_ids: which samples are of one prompt.
            scores: what the scorers of the coefficient's schedule say, [batch] each.
        """
        found = self.terms(rewards, group_ids)
        samples = StepSamples(advantages=found.level, rewards=rewards, scores=scores or {})
        return Weights(
            advantages=found.advantages,
            clipped=found.clipped,
            weight=found.weight,
            beta=self.coefficient.of(samples),
        )


def two_terms(v: Tensor, v_ref: Tensor, rows: Rows) -> Tensor:
    """The loss of eq. 6, weight |v - u_t|^2 + beta |v - v_ref|^2, of each row."""
    weights = rows.weights
    return flow_objective(v, rows.path.u_t, v_ref, weights.weight, beta=weights.beta)


class Clipped(NamedTuple):
    """Advantages before the clip (``raw``) and after it, and where it changed them."""

    raw: Tensor
    advantages: Tensor
    clipped: Tensor


def clipped_advantages(
    rewards: Tensor, group_ids: Tensor, *, scale: AdvantageScale, clip: tuple[float, float]
) -> Clipped:
    """A = R - V(c) in its ``scale``, bounded by ``clip``; 0 for a sample without a score."""
    low, high = clip
    raw = group_advantages(rewards, group_ids, scale=scale)
    return Clipped(raw, clip_advantages(raw, low=low, high=high), (raw < low) | (raw > high))


def no_clip(advantages: Tensor) -> Tensor:
    """``Weights.clipped`` of a method without a clip."""
    return torch.zeros_like(advantages, dtype=torch.bool)

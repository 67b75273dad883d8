"""A method of anchored regression: weights of the loss's terms, sample by sample, and the loss."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple, Protocol, final

import torch
from torch import Tensor

from adrpo.coefficient import Coefficient
from adrpo.core import clip_advantages, flow_objective, group_advantages
from adrpo.core.advantages import favor_novelty, shape_advantages
from adrpo.core.placement import sent
from adrpo.core.schedules import StepSamples
from adrpo.flow.path.path_samples import PathSamples


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Per-sample numbers of one step, all [batch] and constants of the loss

        weight |v - u_t|^2 + beta |v - v_ref|^2

    ``advantages`` is A = R - V(c) in its scale, before the clip; ``clipped`` tells where a clip
    changed it. ``taken`` is false for a sample that takes no part in the update at all; one with
    weight and beta 0 has nothing to learn from where the loss is of these two terms.
    """

    advantages: Tensor
    clipped: Tensor
    weight: Tensor
    beta: Tensor
    taken: Tensor

    def select(self, index: Tensor) -> "Weights":
        """The samples ``index`` (integers, repeats allowed)."""
        return self._each(lambda column: column[index])

    def to(self, device: torch.device) -> "Weights":
        """The same numbers on ``device``."""
        return self._each(lambda column: sent(column, device))

    @staticmethod
    def joined(parts: Sequence["Weights"]) -> "Weights":
        """The samples of all ``parts``, in their order."""
        columns = vars(parts[0])
        return Weights(**{name: torch.cat([vars(p)[name] for p in parts]) for name in columns})

    def only(self, taken: Tensor) -> "Weights":
        """The same numbers, without the samples where ``taken`` [batch] is false."""
        return replace(
            self, weight=self.weight * taken, beta=self.beta * taken, taken=self.taken & taken
        )

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Weights":
        return Weights(**{name: change(column) for name, column in vars(self).items()})


class Rows(Protocol):
    """Rows as a loss reads them, one for each point of the path of each sample: the point, and
    the sample's weights."""

    @property
    def path(self) -> PathSamples: ...

    @property
    def weights(self) -> Weights: ...

    @property
    def v_old(self) -> Tensor:
        """Velocity of the policy that a method compares with (``Method.old``), a constant."""
        ...

    @property
    def of_group(self) -> Tensor:
        """Numbers that ``Method.of_group`` made of the row's group, [rows, k], constants."""
        ...


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Numbers that a method makes of the rewards of one step, all [batch]; see :class:`Weights`.

    ``level`` is the A that the schedule of the penalty reads, in the unit of ``weight``. A method
    in whose loss a weight of 0 is no absence says by ``taken`` which samples have a score.
    """

    advantages: Tensor
    clipped: Tensor
    weight: Tensor
    level: Tensor
    taken: Tensor | None = None


class Method(ABC):
    """One way to weigh samples, and the loss that it weighs. Each method is a final class.

    ``coefficient`` is the weight of its penalty, and all that a method keeps between steps.
    """

    coefficient: Coefficient

    old: ClassVar[bool] = False
    """True where the loss compares with an older policy, ``Rows.v_old``: every sample that is taken
    is run, whatever it weighs."""

    grouped: ClassVar[bool] = False
    """True where the loss of a row reads the other samples of its prompt, through a ``statistic``
    of each that is computed before the gradient: one call of the policy more for each row."""

    @abstractmethod
    def terms(self, rewards: Tensor, group_ids: Tensor, novelty: Tensor | None) -> Terms:
        """Weights of the samples with ``rewards`` [batch]; a sample whose reward is not finite has
        no score and must get weight 0. ``novelty`` [batch] is for ``shaped_advantages``."""

    @abstractmethod
    def loss(self, v: Tensor, v_ref: Tensor, rows: Rows) -> Tensor:
        """Loss of each row, [rows]; only ``v`` carries a gradient."""

    def statistic(self, v: Tensor, rows: Rows) -> Tensor:
        """A number of each row, [rows], that ``of_group`` reads; of a ``grouped`` method."""
        raise NotImplementedError(type(self).__name__)

    def of_group(self, statistic: Tensor, weights: Weights, group: Tensor) -> Tensor:
        """Numbers of its group that each row's loss reads, [rows, k]; of a ``grouped`` method.

        Args:
            statistic: of all rows of the step, [rows].
            weights: theirs.
            group: integers, equal for rows of one prompt at the same point of their samples.
        """
        raise NotImplementedError(type(self).__name__)

    @final
    def weigh(
        self,
        rewards: Tensor,
        group_ids: Tensor,
        scores: Mapping[str, Tensor] | None = None,
        novelty: Tensor | None = None,
    ) -> Weights:
        """The weights of a step's samples; called once for each step.

        Args:
            rewards: R, [batch]; not finite for a sample without a score.
            group_ids: which samples are of one prompt.
            scores: what the scorers of the coefficient's schedule say, [batch] each.
            novelty: what ``advantage_novelty`` says, [batch].
        """
        found = self.terms(rewards, group_ids, novelty)
        samples = StepSamples(advantages=found.level, rewards=rewards, scores=scores or {})
        return Weights(
            advantages=found.advantages,
            clipped=found.clipped,
            weight=found.weight,
            beta=self.coefficient.of(samples),
            taken=torch.ones_like(found.clipped) if found.taken is None else found.taken,
        )


def two_terms(v: Tensor, v_ref: Tensor, rows: Rows) -> Tensor:
    """The loss of eq. 6, weight |v - u_t|^2 + beta |v - v_ref|^2, of each row."""
    weights = rows.weights
    return flow_objective(v, rows.path.u_t, v_ref, weights.weight, beta=weights.beta)


def penalty(v: Tensor, v_ref: Tensor, beta: Tensor) -> Tensor:
    """beta |v - v_ref|^2 of each row; one with beta 0 never reads v_ref."""
    return flow_objective(v, v, v_ref, torch.zeros_like(beta), beta=beta)


class Clipped(NamedTuple):
    """Advantages before the clip (``raw``) and after it, and where it changed them."""

    raw: Tensor
    advantages: Tensor
    clipped: Tensor


def clipped_advantages(
    rewards: Tensor,
    group_ids: Tensor,
    settings: Any,
    novelty: Tensor | None,
    *,
    clip: tuple[float, float] | None = None,
) -> Clipped:
    """A = R - V(c) in the scale and shape of ``settings``, bounded by ``clip``, or by their
    ``advantage_clip`` c to [-c, c]; 0 for a sample without a score.

    ``novelty`` [batch] is what ``settings.advantage_novelty`` says of the samples, if anything.
    """
    low, high = clip or (-settings.advantage_clip, settings.advantage_clip)
    raw = shaped_advantages(rewards, group_ids, settings, novelty)
    return Clipped(raw, clip_advantages(raw, low=low, high=high), (raw < low) | (raw > high))


def shaped_advantages(
    rewards: Tensor, group_ids: Tensor, settings: Any, novelty: Tensor | None
) -> Tensor:
    """A = R - V(c) in the scale and shape of ``settings``, before any clip."""
    advantages = group_advantages(rewards, group_ids, scale=settings.advantage_scale)
    shaped = shape_advantages(advantages, gamma=settings.advantage_gamma)
    return shaped if novelty is None else favor_novelty(shaped, novelty, group_ids)


def no_clip(advantages: Tensor) -> Tensor:
    """``Weights.clipped`` of a method without a clip."""
    return torch.zeros_like(advantages, dtype=torch.bool)

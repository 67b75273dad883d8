"""The weight of the penalty, beta of each sample: a schedule, and the beta_0 that it varies around.

A domain asks for it after it has its advantages, whatever its loss is; what it learns from step to
step is here and nowhere else.
"""

from functools import partial
from typing import Any, final

from torch import Tensor

from adrpo.config.schedules import AdaptiveSchedule, MixtureSchedule, ScheduleSection
from adrpo.core import schedules
from adrpo.core.controller import controlled
from adrpo.core.schedules import Schedule, State, StepSamples


def schedule_of(section: ScheduleSection, *, clip: tuple[float, float] | None) -> Schedule:
    """The schedule of a configuration's section ``coefficient``, as a function of samples, state
    and beta_0.

    Args:
        section: one form of the section.
        clip: of A where the schedule is adaptive; None where A is clipped already.
    """
    function = getattr(schedules, section.schedule)
    if isinstance(section, MixtureSchedule):
        parts = [(part.weight, schedule_of(part.coefficient, clip=clip)) for part in section.parts]
        return partial(function, parts=parts)
    if isinstance(section, AdaptiveSchedule):
        return partial(function, clip=clip)
    return partial(function, **section.model_dump(exclude={"schedule", "scores"}))


@final
class Coefficient:
    """beta as a function of the samples of a step, around a ``beta_0`` that a controller may move.

    Args:
        section: the schedule (:mod:`adrpo.core.schedules`).
        beta_0: where it starts.
        target: the divergence that the controller holds (``core.controller``); None keeps beta_0.
        clipped: True where A comes clipped, and is read as it comes; False clips it to +-beta_0
            in the coefficient alone, so that an adaptive one lies in [0, 2 beta_0].
    """

    def __init__(
        self,
        section: ScheduleSection,
        beta_0: float,
        *,
        target: float | None = None,
        clipped: bool = False,
    ) -> None:
        self.section = section
        self.beta_0 = beta_0
        self.target = target
        self.clipped = clipped
        self.learned: State = {}

    def of(self, samples: StepSamples) -> Tensor:
        """beta of the samples of a step, [batch]; called once for each step."""
        clip = None if self.clipped else (-self.beta_0, self.beta_0)
        schedule = schedule_of(self.section, clip=clip)
        beta, self.learned = schedule(samples, self.learned, beta_0=self.beta_0)
        return beta

    def observe(self, divergence: float) -> None:
        """Learn the divergence of the step that was just made."""
        if self.target is not None:
            self.beta_0 = controlled(self.beta_0, divergence=divergence, target=self.target)

    def state(self) -> dict[str, Any]:
        """All that steps change."""
        return {"beta_0": self.beta_0, "learned": dict(self.learned)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        # Earlier checkpoints of methods without a controller hold neither.
        self.beta_0 = state.get("beta_0", self.beta_0)
        self.learned = state.get("learned", {})

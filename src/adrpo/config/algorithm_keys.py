"""Keys that forms of the section ``algorithm`` share, each described once.

"Paper" is arXiv 2510.18053; "ours" marks what a source leaves open.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from adrpo.config.fields import (
    Count,
    NonNegativeCount,
    NonNegativeNumber,
    PositiveNumber,
    Section,
    Switch,
    conflict,
)
from adrpo.config.rewards import MeasuredRewardSection
from adrpo.config.schedules import CoefficientSchedule, FixedSchedule, ScheduleSection
from adrpo.config.shared import MethodSection

Scale = Literal["none", "group", "batch", "global"]
Decay = Annotated[float, Field(strict=True, ge=0, lt=1)]
UnitNumber = Annotated[float, Field(ge=0, le=1)]

DEVIATION = (
    "Standard deviation that divides A = R - V: the group's, the batch's within groups (batch), or "
    "that of all its rewards, between groups, too (global)."
)
SCALE = f"{DEVIATION} Before the clip. Ours."


def check_clip(clip: tuple[float, float]) -> None:
    """Refuse A_min > A_max."""
    low, high = clip
    if low > high:
        raise conflict(
            f"advantage_clip: expected [A_min, A_max] with A_min <= A_max, received [{low}, {high}]"
        )


def check_schedule(schedule: ScheduleSection, beta_0: float, key: str) -> None:
    """Refuse a ``beta_0``, the value of ``key``, that the schedule can't be around."""
    if schedule.follows and beta_0 == 0:
        raise conflict(
            f"{key}: expected a number above 0 with coefficient.schedule: {schedule.schedule}, "
            f"which has {key} - A, received 0"
        )
    least = getattr(schedule, "least", 0.0)
    if least > beta_0:
        raise conflict(
            f"{key}: expected at least coefficient.least = {least:g}, which a sample of a low "
            f"reward has, received {beta_0:g}"
        )


class Unpenalised(MethodSection):
    """Base of methods whose loss has no penalty: a coefficient is refused by its reason."""

    @model_validator(mode="before")
    @classmethod
    def _check_no_coefficient(cls, section: Any) -> Any:
        if isinstance(section, dict) and "coefficient" in section:
            raise conflict(
                f"coefficient: expected none, since the loss {cls.loss} has no penalty that it "
                f"could weigh; take a method that has one (docs/method/equations.md)"
            )
        return section


class Scheduled(MethodSection):
    """Keys of the methods whose penalty takes any schedule: how tightly each sample is held."""

    beta_0: NonNegativeNumber = Field(
        default=1.0, description="Coefficient that the schedule is around: that of A = 0. Paper: 1."
    )
    coefficient: CoefficientSchedule = Field(
        default=FixedSchedule(), description="Schedule of the coefficient over samples."
    )

    @model_validator(mode="after")
    def _beta_0_fits_the_schedule(self) -> Self:
        check_schedule(self.coefficient, self.beta_0, "beta_0")
        return self


class SnapshotSection(Section):
    """A policy that follows the trained one: theta_old <- d theta_old + (1 - d) theta a step, with
    d = min(decay + decay_growth max(k - decay_flat, 0), decay_most) after k steps."""

    decay: UnitNumber = Field(default=0.0, description="d at first; 0: the policy before a step.")
    decay_growth: NonNegativeNumber = Field(
        default=0.0, description="What d grows by in each step. NFT: 0.001; CRD: 0.005 and 0.0075."
    )
    decay_flat: NonNegativeCount = Field(
        default=0, description="Steps before it grows. CRD's sampling policy: 75."
    )
    decay_most: UnitNumber = Field(default=1.0, description="Bound of d. NFT: 0.5; CRD: 0.999.")


class Lagged(MethodSection):
    """Key of the methods that may sample from a policy of before."""

    sampling_policy: SnapshotSection | None = Field(
        default=None,
        description="Policy that draws the samples: null is the current one (paper), a section one "
        "that lags behind.",
    )


class Weighed(Lagged):
    """Base of the methods that weigh the terms of one loss, which ``FlowTrainer`` trains."""

    weighed_by: ClassVar[str]
    """Class of :mod:`adrpo.flow.methods` that weighs the samples, as "module:class"."""
    shared_points: Switch = Field(
        default=False,
        description="Learns from the images of a prompt at the same points (t, x_0), so that noise "
        "that they have in common cancels where their A sum to 0. false: each at its own (paper). "
        "DGPO: true.",
    )


class Shaped(MethodSection):
    """Keys of the methods that weigh samples by A: what it becomes between scale and clip."""

    advantage_gamma: NonNegativeNumber = Field(
        default=0.0,
        description="sign(A) |A|^(1 + gamma) in the place of A, before the clip; 0 is A. SLAS's "
        "gamma, with A in standard deviations of the batch (arXiv 2605.10937).",
    )
    advantage_novelty: MeasuredRewardSection | None = Field(
        default=None,
        description="Reward that tells how unlike the others of its prompt a sample is: a good A "
        "is multiplied by it, divided by its mean over the prompt. null: A. GARDO: DINOv3's 1 - "
        "cos to the nearest (clip_novelty with nearest: true).",
    )


class Anchored(MethodSection):
    """Keys that the methods with a divergence term share: the model behind v_ref."""

    anchor: Literal["base", "ema", "copied"] = Field(
        default="base",
        description="v_ref's model: the frozen base (paper), a moving average of the policy, or a "
        "copy of the policy that is made anew from time to time.",
    )
    anchor_decay: Decay = Field(
        default=0.95, description="Decay of the moving average a step, for anchor: ema. Ours."
    )
    anchor_copy_above: PositiveNumber = Field(
        default=3e-4,
        description="Penalty of a step (divergence; Flow-GRPO: kl) above which the policy becomes "
        "the anchor, for anchor: copied. GARDO: 3e-4, a matter of the task.",
    )
    anchor_copy_after: Count = Field(
        default=15, description="Steps after which it does so anyway, for copied. GARDO: 15 epochs."
    )

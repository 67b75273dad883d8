"""The section ``coefficient``: the penalty's schedule over samples, named by its key ``schedule``.

The schedules themselves, with their formulas, are :mod:`adrpo.core.schedules`. All of them are
around the ``beta_0`` of the section ``algorithm``.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from adrpo.config.fields import NonNegativeNumber, PositiveNumber, Section, refuse_empty
from adrpo.config.rewards import MeasuredRewardSection


class ScheduleSection(Section):
    """Base of the schedules of the penalty's coefficient beta over the samples of a step."""

    schedule: str = Field(description="Which schedule this is.")

    @property
    def follows(self) -> bool:
        """Tell whether beta_0 - A is part of it, which may be negative and needs a beta_0 > 0."""
        return False

    @property
    def scorers(self) -> tuple[MeasuredRewardSection, ...]:
        """Rewards beside the trained one that the schedule reads at every step."""
        return ()


class FixedSchedule(ScheduleSection):
    """beta_0 for every sample (paper, eq. 2)."""

    schedule: Literal["fixed"] = Field(default="fixed", description="Which schedule this is.")


class AdaptiveSchedule(ScheduleSection):
    """ADRPO's beta_0 - A: good samples are held loosely, bad ones tightly (paper, eq. 4).

    In the anchored regression A is the weight's, clipped as that; elsewhere it is clipped to
    +-beta_0 in the coefficient alone.
    """

    schedule: Literal["adaptive"] = Field(default="adaptive", description="Which schedule this is.")

    @property
    def follows(self) -> bool:
        return True


class SignGatedSchedule(ScheduleSection):
    """beta_0 (1 - sign A): 0, beta_0 or 2 beta_0, the null model of the adaptive one. Ours."""

    schedule: Literal["sign_gated"] = Field(description="Which schedule this is.")


class RewardAdaptiveSchedule(ScheduleSection):
    """CRD's reward-adaptive KL, least + (beta_0 - least) r: good samples tightly (2603.14128)."""

    schedule: Literal["reward_adaptive"] = Field(description="Which schedule this is.")
    bound: PositiveNumber = Field(
        default=5.0,
        description="c of r = (clip(A, -c, c) / c + 1) / 2, in units of A. CRD: 5 deviations.",
    )
    least: NonNegativeNumber = Field(
        default=1e-4, description="Coefficient of a sample with A <= -c. CRD: 1e-4."
    )


class GatedSchedule(ScheduleSection):
    """GARDO's gate: only samples that no other scorer confirms are held (arXiv 2512.24138)."""

    schedule: Literal["gated"] = Field(description="Which schedule this is.")
    scores: Annotated[tuple[MeasuredRewardSection, ...], AfterValidator(refuse_empty)] = Field(
        description="Rewards that a sample's rank is compared by; they are never trained on."
    )
    share: Annotated[float, Field(ge=0.02, le=0.2)] = Field(
        default=0.1,
        description="b, the share of the doubted samples that is gated at first. GARDO: 0.1.",
    )

    @property
    def scorers(self) -> tuple[MeasuredRewardSection, ...]:
        return self.scores


Part = Annotated[
    Annotated[FixedSchedule, Tag("fixed")]
    | Annotated[AdaptiveSchedule, Tag("adaptive")]
    | Annotated[SignGatedSchedule, Tag("sign_gated")]
    | Annotated[RewardAdaptiveSchedule, Tag("reward_adaptive")]
    | Annotated[GatedSchedule, Tag("gated")],
    Discriminator("schedule"),
]
"""Every schedule that may be part of a mixture."""


class MixturePartSection(Section):
    """One schedule of a mixture."""

    weight: PositiveNumber = Field(
        default=1.0, description="w_k of sum of w_k beta_k / sum of w_k. Ours."
    )
    coefficient: Part = Field(description="Schedule k.")


class MixtureSchedule(ScheduleSection):
    """A weighted mean of schedules. Ours."""

    schedule: Literal["mixture"] = Field(description="Which schedule this is.")
    parts: Annotated[tuple[MixturePartSection, ...], AfterValidator(refuse_empty)] = Field(
        description="The schedules, each with its weight."
    )

    @property
    def follows(self) -> bool:
        return any(part.coefficient.follows for part in self.parts)

    @property
    def scorers(self) -> tuple[MeasuredRewardSection, ...]:
        return tuple(term for part in self.parts for term in part.coefficient.scorers)


CoefficientSchedule = Annotated[
    Annotated[FixedSchedule, Tag("fixed")]
    | Annotated[AdaptiveSchedule, Tag("adaptive")]
    | Annotated[SignGatedSchedule, Tag("sign_gated")]
    | Annotated[RewardAdaptiveSchedule, Tag("reward_adaptive")]
    | Annotated[GatedSchedule, Tag("gated")]
    | Annotated[MixtureSchedule, Tag("mixture")],
    Discriminator("schedule"),
]
"""Every schedule; a new one is a function of core.schedules, a class here, and its entry here."""

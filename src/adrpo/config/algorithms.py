"""The section ``algorithm``: one form for each method, told apart by its key ``method``.

A method says what the two terms of the loss are weighed by (:mod:`adrpo.flow.methods`), or has a
loss of its own. "Paper" is arXiv 2510.18053; "ours" marks what a source leaves open.
"""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from adrpo.config.fields import (
    Count,
    NonNegativeNumber,
    Number,
    PositiveNumber,
    Switch,
    Text,
    conflict,
    with_default,
)
from adrpo.config.schedules import AdaptiveSchedule, CoefficientSchedule, FixedSchedule
from adrpo.config.shared import MethodSection

Scale = Literal["none", "group", "batch", "global"]
Decay = Annotated[float, Field(strict=True, ge=0, lt=1)]

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


class Weighed(MethodSection):
    """Base of the methods that weigh the terms of one loss, which ``FlowTrainer`` trains."""

    weighed_by: ClassVar[str]
    """Class of :mod:`adrpo.flow.methods` that weighs the samples, as "module:class"."""


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
        schedule = self.coefficient
        if schedule.follows and self.beta_0 == 0:
            raise conflict(
                f"beta_0: expected a number above 0 with coefficient.schedule: "
                f"{schedule.schedule}, which has beta_0 - A, received 0"
            )
        least = getattr(schedule, "least", 0.0)
        if least > self.beta_0:
            raise conflict(
                f"beta_0: expected at least coefficient.least = {least:g}, which a sample of a low "
                f"reward has, received {self.beta_0:g}"
            )
        return self


class Anchored(MethodSection):
    """Keys that the methods with a divergence term share: the model behind v_ref."""

    anchor: Literal["base", "ema"] = Field(
        default="base",
        description="v_ref's model: the frozen base (paper), or a moving average of the policy.",
    )
    anchor_decay: Decay = Field(
        default=0.95, description="Decay of the moving average a step, for anchor: ema. Ours."
    )


class Penalized(Weighed, Anchored):
    """Keys that ADRPO and the fixed penalty share: A |v - u_t|^2 + beta |v - v_ref|^2."""

    beta_0: PositiveNumber = Field(
        default=1.0, description="Divergence coefficient at A = 0, no unit. Paper: 1."
    )
    advantage_clip: tuple[Number, Number] = Field(
        default=(-1.0, 1.0),
        description="[A_min, A_max], in units of the reward (or of its scale). Paper: [-1, 1].",
    )
    advantage_scale: Scale = Field(default="none", description=SCALE)
    target_divergence: PositiveNumber | None = Field(
        default=None,
        description="Divergence that a controller of beta_0 holds; null keeps beta_0. Ours.",
    )

    @model_validator(mode="after")
    def _clip_is_ordered(self) -> Self:
        check_clip(self.advantage_clip)
        return self


class AdrpoSection(Penalized, Scheduled):
    """ADRPO: A |v - u_t|^2 + (beta_0 - A) |v - v_ref|^2 (paper, eq. 6, Algorithm 1)."""

    weighed_by = "adrpo:Adrpo"
    method: Literal["adrpo"] = Field(default="adrpo", description="Which method this is.")
    allow_negative_beta: Switch = Field(
        default=False,
        description="Permits A_max > beta_0, where beta = beta_0 - A may be negative. Ours.",
    )
    only_positive: Switch = Field(
        default=False,
        description="Ablation: samples with A < 0 count as A = 0 in both terms. Paper: false.",
    )

    coefficient: CoefficientSchedule = with_default(Scheduled, "coefficient", AdaptiveSchedule())

    @model_validator(mode="after")
    def _is_no_other_method(self) -> Self:
        if isinstance(self.coefficient, FixedSchedule):
            raise conflict(
                "coefficient.schedule: expected a schedule that varies over samples, received "
                "fixed, which is algorithm.method: fixed_beta; set that"
            )
        return self

    @model_validator(mode="after")
    def _beta_keeps_its_sign(self) -> Self:
        low, high = self.advantage_clip
        if self.allow_negative_beta or not self.coefficient.follows:
            return self
        if high > self.beta_0:
            raise conflict(
                f"advantage_clip: expected A_max <= beta_0 = {self.beta_0}, "
                f"received [{low}, {high}], with which beta = beta_0 - A can be negative; "
                "lower A_max, or set algorithm.allow_negative_beta: true"
            )
        if self.target_divergence is not None and high > 0:
            raise conflict(
                "target_divergence: expected algorithm.allow_negative_beta: true beside it, since "
                "the controller may lower beta_0 below A_max; received false"
            )
        return self


class FixedBetaSection(Penalized):
    """Fixed beta, the ablation: A |v - u_t|^2 + beta_0 |v - v_ref|^2 (paper, eq. 2)."""

    weighed_by = "adrpo:Adrpo"
    method: Literal["fixed_beta"] = Field(description="Which method this is.")

    @property
    def coefficient(self) -> FixedSchedule:
        """The schedule that the method's name stands for."""
        return FixedSchedule()


class OrwCfmW2Section(Weighed, Anchored, Scheduled):
    """ORW-CFM-W2: w |v - u_t|^2 + beta_0 |v - v_ref|^2 (Fan et al., arXiv 2502.06061)."""

    weighed_by = "orw_cfm_w2:OrwCfmW2"
    method: Literal["orw_cfm_w2"] = Field(description="Which method this is.")
    beta_0: PositiveNumber = Field(
        default=1.0, description="Coefficient of the W2 term. Paper: that of ADRPO, 1."
    )
    temperature: PositiveNumber = Field(
        default=0.5, description="tau of w = exp(tau A). The authors' code: 0.5."
    )
    advantage_scale: Scale = Field(default="none", description=f"{DEVIATION} Ours.")
    weight_mean: Literal["free", "one"] = Field(
        default="free",
        description="free: w = exp(tau A); one: divided by its mean over the group. Ours.",
    )


class RaftSection(Weighed):
    """RAFT: |v - u_t|^2 on the best samples of each group (Dong et al., arXiv 2304.06767)."""

    weighed_by = "raft:Raft"
    method: Literal["raft"] = Field(description="Which method this is.")
    best: Count = Field(default=1, description="Samples of a group that are kept. RAFT: 1.")


class AwmSection(Weighed, Anchored, Scheduled):
    """Advantage-weighted matching: A |v - u_t|^2 + beta_0 |v - v_ref|^2 (arXiv 2509.25050)."""

    weighed_by = "awm:Awm"
    method: Literal["awm"] = Field(description="Which method this is.")
    beta_0: NonNegativeNumber = Field(
        default=0.0,
        description="Coefficient of a sample with A = 0, in units of the divided A; 0: no penalty "
        "and no reference. AWM has a constant one to a moving average (anchor: ema).",
    )
    advantage_clip: tuple[Number, Number] = Field(
        default=(-5.0, 5.0),
        description="[A_min, A_max]; A is then divided by its greater end. AWM: [-5, 5].",
    )
    advantage_scale: Scale = Field(default="global", description=f"{DEVIATION} AWM: global.")

    @model_validator(mode="after")
    def _clip_is_ordered(self) -> Self:
        check_clip(self.advantage_clip)
        return self


class DiffusionNftSection(Weighed, Anchored):
    """DiffusionNFT: a positive and a negative implicit policy (Zheng et al., arXiv 2509.16117)."""

    weighed_by = "diffusion_nft:DiffusionNft"
    method: Literal["diffusion_nft"] = Field(description="Which method this is.")
    beta_0: PositiveNumber = Field(
        default=1.0, description="Strength beta of the implicit policies. NFT: 1 (0.1 for OCR)."
    )
    advantage_clip: PositiveNumber = Field(
        default=5.0, description="A is clipped to [-c, c]; r = A / (2 c) + 1/2. NFT: 5."
    )
    advantage_scale: Scale = Field(default="global", description=f"{DEVIATION} NFT: global.")
    adaptive_weighting: Switch = Field(
        default=True,
        description="Divide each term by the size of its error in x_1, held constant. NFT: true.",
    )
    anchor: Literal["base", "ema"] = Field(
        default="ema", description="v_old's model: a moving average of the policy. NFT: ema."
    )


class FlowGrpoSection(Anchored, Scheduled):
    """Flow-GRPO: clipped ratios of an SDE's Gaussian steps (Liu et al., arXiv 2505.05470)."""

    method: Literal["flow_grpo"] = Field(description="Which method this is.")
    advantage_clip: PositiveNumber = Field(
        default=5.0, description="A is clipped to [-c, c]. Flow-GRPO: 5."
    )
    advantage_scale: Scale = Field(
        default="global", description=f"{DEVIATION} Flow-GRPO's code: global."
    )
    clip_range: PositiveNumber = Field(
        default=1e-4,
        description="Bound of |ratio - 1|; log p is a mean over elements. Flow-GRPO: 1e-4.",
    )
    beta_0: NonNegativeNumber = Field(
        default=0.04,
        description="Coefficient, at A = 0, of a step's exact KL to the anchor. Flow-GRPO: 0.04 of "
        "a KL without dt in its variance, which is weaker by dt, about 1 / sampling.steps.",
    )
    noise_level: PositiveNumber = Field(
        default=0.7, description="a of the SDE's noise a sqrt((1 - t) / t). Flow-GRPO: 0.7."
    )
    updates_per_step: Count = Field(
        default=2, description="Optimizer steps over the parts of a batch. Flow-GRPO: 2."
    )


class DpoSection(MethodSection):
    """Diffusion-DPO on flow matching, from stored pairs (Wallace et al., arXiv 2311.12908)."""

    method: Literal["dpo"] = Field(description="Which method this is.")
    beta: PositiveNumber = Field(
        default=2000.0, description="beta of the DPO loss, times the squared velocity error."
    )
    pairs: Text | None = Field(
        default=None,
        description="Folder with pairs.jsonl; null: the base draws them at the run's start.",
    )
    pairs_prompts: Count = Field(
        default=600, description="Training prompts that the base draws pairs for. Ours."
    )
    pairs_samples: Annotated[int, Field(strict=True, ge=2)] = Field(
        default=16, description="Images drawn for each; the best and the worst make the pair. Ours."
    )


def _method(section: Any) -> Any:
    """The method whose form ``section`` has; one that names no method is ADRPO."""
    if isinstance(section, dict):
        return section.get("method", "adrpo")
    return getattr(section, "method", None)


AlgorithmSection = Annotated[
    Annotated[AdrpoSection, Tag("adrpo")]
    | Annotated[FixedBetaSection, Tag("fixed_beta")]
    | Annotated[OrwCfmW2Section, Tag("orw_cfm_w2")]
    | Annotated[RaftSection, Tag("raft")]
    | Annotated[AwmSection, Tag("awm")]
    | Annotated[DiffusionNftSection, Tag("diffusion_nft")]
    | Annotated[FlowGrpoSection, Tag("flow_grpo")]
    | Annotated[DpoSection, Tag("dpo")],
    Discriminator(_method),
]

"""The section ``algorithm``: one form for each method, told apart by its key ``method``.

A method says what the two terms of the loss are weighed by (:mod:`adrpo.flow.methods`), or has a
loss of its own. "Paper" is arXiv 2510.18053; "ours" marks what a source leaves open.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from adrpo.config.algorithm_keys import (
    DEVIATION,
    SCALE,
    Anchored,
    Lagged,
    Scale,
    Scheduled,
    Shaped,
    SnapshotSection,
    Unpenalised,
    Weighed,
    check_clip,
    check_schedule,
)
from adrpo.config.fields import (
    Count,
    GuidanceScale,
    NonNegativeNumber,
    Number,
    PositiveNumber,
    Switch,
    Text,
    conflict,
    with_default,
)
from adrpo.config.schedules import (
    AdaptiveSchedule,
    CoefficientSchedule,
    FixedSchedule,
    RewardAdaptiveSchedule,
)


class Penalized(Weighed, Shaped, Anchored):
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
    loss = "regression"
    papers = {"adaptive": "ADRPO (2510.18053)"}  # noqa: RUF012
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
    loss = "regression"
    papers = {"fixed": "fixed penalty (2510.18053)"}  # noqa: RUF012
    method: Literal["fixed_beta"] = Field(description="Which method this is.")

    @property
    def coefficient(self) -> FixedSchedule:
        """The schedule that the method's name stands for."""
        return FixedSchedule()


class OrwCfmW2Section(Weighed, Shaped, Anchored, Scheduled):
    """ORW-CFM-W2: w |v - u_t|^2 + beta_0 |v - v_ref|^2 (Fan et al., arXiv 2502.06061)."""

    weighed_by = "orw_cfm_w2:OrwCfmW2"
    loss = "orw_cfm_w2"
    papers = {"fixed": "ORW-CFM-W2 (2502.06061)"}  # noqa: RUF012
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


class RaftSection(Weighed, Unpenalised):
    """RAFT: |v - u_t|^2 on the best samples of each group (Dong et al., arXiv 2304.06767)."""

    weighed_by = "raft:Raft"
    loss = "raft"
    method: Literal["raft"] = Field(description="Which method this is.")
    best: Count = Field(default=1, description="Samples of a group that are kept. RAFT: 1.")


class AwmSection(Weighed, Shaped, Anchored, Scheduled):
    """Advantage-weighted matching: A |v - u_t|^2 + beta_0 |v - v_ref|^2 (arXiv 2509.25050)."""

    weighed_by = "awm:Awm"
    loss = "awm"
    papers = {"fixed": "AWM (2509.25050)"}  # noqa: RUF012
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


class DiffusionNftSection(Weighed, Shaped, Anchored):
    """DiffusionNFT: a positive and a negative implicit policy (Zheng et al., arXiv 2509.16117)."""

    weighed_by = "diffusion_nft:DiffusionNft"
    loss = "diffusion_nft"
    papers = {"fixed": "DiffusionNFT (2509.16117)"}  # noqa: RUF012
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
    anchor: Literal["base", "ema", "sampling"] = Field(
        default="ema",
        description="v_old's model: the frozen base, a moving average of the policy, or the policy "
        "of sampling_policy. NFT: sampling.",
    )
    kl_beta: NonNegativeNumber = Field(
        default=0.0,
        description="Coefficient of |v - v_ref|^2 beside it, v_ref the base's, which `coefficient` "
        "varies. NFT: 1e-4.",
    )
    coefficient: CoefficientSchedule = with_default(Scheduled, "coefficient", FixedSchedule())
    loss_weight: PositiveNumber = Field(
        default=1.0, description="Factor of the loss without that term. NFT: 5, its clip."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_schedule(self.coefficient, self.kl_beta, "kl_beta")
        if self.anchor == "sampling" and self.sampling_policy is None:
            raise conflict(
                "anchor: expected base or ema with sampling_policy: null, received sampling; set "
                "sampling_policy, as {decay_growth: 0.001, decay_most: 0.5} of NFT"
            )
        return self


class CrdSection(Weighed, Shaped, Anchored, Scheduled):
    """CRD: (r_theta - mean r_theta - (r - mean r))^2, centred in the prompt (arXiv 2603.14128)."""

    weighed_by = "crd:Crd"
    loss = "crd"
    papers = {"reward_adaptive": "CRD (2603.14128)"}  # noqa: RUF012
    method: Literal["crd"] = Field(description="Which method this is.")
    beta_0: NonNegativeNumber = Field(
        default=0.1, description="Greatest coefficient of |v - v_ref|^2. CRD's kl_beta: 0.1."
    )
    coefficient: CoefficientSchedule = with_default(
        Scheduled, "coefficient", RewardAdaptiveSchedule(schedule="reward_adaptive")
    )
    anchor_guidance_scale: GuidanceScale = Field(
        default=4.5, description="Classifier-free guidance of v_ref; 1 is off. CRD's kl_cfg: 4.5."
    )
    advantage_clip: PositiveNumber = Field(
        default=5.0, description="A is clipped to [-c, c]; r = A / (2 c) + 1/2. CRD: 5."
    )
    advantage_scale: Scale = Field(default="global", description=f"{DEVIATION} CRD: global.")
    implicit_scale: PositiveNumber = Field(
        default=1.0, description="b, factor of the implicit reward beside the reward. CRD: 1."
    )
    error_weighting: Switch = Field(
        default=True,
        description="Divide each squared error by the size of its error, held constant. CRD: true.",
    )
    centering: Literal["uniform", "softmax"] = Field(
        default="uniform",
        description="Means over the prompt: of all samples alike, or the mean loss of two, by "
        "softmax(r / tau) and softmax(-r / tau). CRD: both.",
    )
    centering_temperature: PositiveNumber = Field(
        default=1.0, description="tau of centering: softmax, in units of r. Ours."
    )
    old: SnapshotSection = Field(
        default=SnapshotSection(decay=0.25, decay_growth=0.005, decay_most=0.999),
        description="Policy that the implicit reward is measured from.",
    )
    sampling_policy: SnapshotSection | None = with_default(
        Lagged,
        "sampling_policy",
        SnapshotSection(decay_growth=0.0075, decay_flat=75, decay_most=0.999),
    )


class DgpoSection(Weighed, Shaped, Anchored, Unpenalised):
    """DGPO: w_g A |v - u_t|^2, w_g a preference of the whole group (arXiv 2510.08425)."""

    weighed_by = "dgpo:Dgpo"
    loss = "dgpo"
    method: Literal["dgpo"] = Field(description="Which method this is.")
    beta: PositiveNumber = Field(
        default=100.0, description="beta of w_g = sigmoid(mean A beta (d - d_ref)). DGPO: 100."
    )
    advantage_clip: PositiveNumber = Field(
        default=5.0, description="A is clipped to [-c, c]. Ours."
    )
    advantage_scale: Scale = Field(default="group", description=f"{DEVIATION} DGPO: group.")
    shared_points: Switch = with_default(Weighed, "shared_points", True)


class FlowGrpoSection(Shaped, Anchored, Scheduled):
    """Flow-GRPO: clipped ratios of an SDE's Gaussian steps (Liu et al., arXiv 2505.05470)."""

    loss = "flow_grpo"
    papers = {"fixed": "Flow-GRPO (2505.05470)", "gated": "GARDO (2512.24138)"}  # noqa: RUF012
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


class FdfoSection(Anchored, Scheduled):
    """FDFO: reward differences of pairs from one start noise (McAllister et al., arXiv 2603.12893).

    A pair's half difference of rewards is the A of its coefficient.
    """

    loss = "fdfo"
    papers = {"fixed": "FDFO (2603.12893)"}  # noqa: RUF012
    method: Literal["fdfo"] = Field(description="Which method this is.")
    churn: NonNegativeNumber = Field(
        default=0.01,
        description="Fresh noise at the start and at each step: the ratio of noise to signal "
        "grows by 1 + churn. FDFO: 0.0025 at 40 steps, of which 0.01 at 10 stirs as much.",
    )
    points: Count | None = Field(
        default=None,
        description="Points of a trajectory that are trained on, drawn anew for each pair; null: "
        "all. FDFO: all.",
    )
    clip_range: PositiveNumber = Field(
        default=0.03,
        description="epsilon: the ratio q of a point is drawn to 1 +- epsilon. FDFO: 0.03.",
    )
    advantage_scale: Scale = Field(
        default="none", description=f"{DEVIATION} FDFO: none; without a penalty it cancels."
    )
    updates_per_step: Count = Field(
        default=4, description="Optimizer steps over the parts of a batch. FDFO: 4."
    )
    beta_0: NonNegativeNumber = Field(
        default=0.0,
        description="Coefficient of |v - v_ref|^2 at the same points, where the half difference "
        "of a pair is 0. FDFO: 0, none.",
    )


class DpoSection(Unpenalised):
    """Diffusion-DPO on flow matching, from stored pairs (Wallace et al., arXiv 2311.12908)."""

    loss = "dpo"
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
    pairs_samples: Annotated[Count, Field(ge=2)] = Field(
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
    | Annotated[CrdSection, Tag("crd")]
    | Annotated[DgpoSection, Tag("dgpo")]
    | Annotated[FlowGrpoSection, Tag("flow_grpo")]
    | Annotated[FdfoSection, Tag("fdfo")]
    | Annotated[DpoSection, Tag("dpo")],
    Discriminator(_method),
]

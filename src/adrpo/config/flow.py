"""Configurations of the domain ``flow``: fields, units, bounds, and what excludes what.

"Paper" is arXiv 2510.18053. "Ours" marks what the paper leaves open and this package chose.
A check of one field is a bound of that field or raises ``refusal``; a check of several keys
raises ``conflict``. The section ``algorithm`` has one form for each method
(:mod:`adrpo.config.algorithms`).
"""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from adrpo.config.algorithms import AdrpoSection, AlgorithmSection, DpoSection, FdfoSection
from adrpo.config.fields import (
    Count,
    Dtype,
    GuidanceScale,
    Renamed,
    Section,
    Switch,
    Text,
    conflict,
    refusal,
)
from adrpo.config.flow_notices import told_of_guidance, told_of_toys
from adrpo.config.rewards import RewardTerms, RewardTermSection
from adrpo.config.shared import (
    AdapterSection,
    Configuration,
    EvaluationSection,
    ModelSection,
    PromptSource,
    Trainable,
    TrainingSection,
)
from adrpo.data.prompts import share_prompts
from adrpo.metrics import without_ending

OWN_TRAJECTORIES = {
    "flow_grpo": (
        "Euler-Maruyama steps and trains on each of them",
        "whose ratio of a step's densities is 1",
    ),
    "fdfo": ("churned Euler steps and trains on their points", "whose ratio of a point is 1"),
}
"""Methods that learn from the points of trajectories that they drew -> how these are drawn, and
what the policy's velocity there is compared by."""


class FlowModelSection(ModelSection):
    """The frozen base model."""

    pretrained: Text = Field(
        default="embedded",
        description="'embedded', a folder in diffusers' layout, or a Hub id. Paper: SD3 medium.",
    )
    dtype: Dtype = Field(
        default="float32",
        description="Type of the base weights; the adapter is float32 always. float16 has a "
        "loss scale, a constant power of two that leaves the gradients. Ours.",
    )
    max_sequence_length: Count | None = Field(
        default=None,
        description="Tokens of the long prompt encoding (T5 of SD3); null: as many as the "
        "pipeline's own call takes, and 1 for the embedded model, which has no T5.",
    )
    height: Count | None = Field(
        default=None,
        description="Image height in pixels, of prompts without a column of this name; null is the "
        "model's own. Ours.",
    )
    width: Count | None = Field(
        default=None,
        description="Image width in pixels, of prompts without a column of this name; null is the "
        "model's own. Ours.",
    )
    device: Text = Field(
        default="auto",
        description="auto, cpu, mps, cuda or cuda:N; auto takes an accelerator if there is one.",
    )
    embedding_cache: Text | None = Field(
        default=None,
        description="Folder of text embeddings, computed once for each set of prompts and read by "
        "later runs; null: computed by every run. Never changes the result.",
    )
    encoders: Literal["resident", "released"] = Field(
        default="resident",
        description="released: all prompts are encoded first, and the text encoders are gone "
        "before training; with a warm embedding_cache they are not even loaded. Ours.",
    )
    encoder_batch_size: Count | None = Field(
        default=None,
        description="Prompts that are encoded at once; null: all of a set. Ours.",
    )
    vae_tiling: Switch = Field(
        default=False,
        description="Decode large images in overlapping tiles, blended at their seams. Ours.",
    )
    vae_slicing: Switch = Field(default=False, description="Decode one image at a time. Ours.")
    quantization: Literal["int8", "nf4"] | None = Field(
        default=None,
        description="int8: the transformer's frozen weights in 8 bits, with a scale for each "
        "output of a layer; needs gradient_checkpointing and the package torchao. nf4: in 4 bits, "
        "with a scale for every 64; needs a GPU and the package bitsandbytes. Either needs "
        "bfloat16. Ours.",
    )
    compile: Switch = Field(
        default=False,
        description="torch.compile the transformer: minutes once, then faster steps; the result is "
        "the same up to rounding. On a CPU it needs a C++ compiler. Ours.",
    )

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
            raise refusal(f"expected auto, cpu, mps, cuda or cuda:N, received {value!r}")
        return value

    @model_validator(mode="after")
    def _quantization_fits(self) -> Self:
        if self.quantization is None:
            return self
        if self.dtype != "bfloat16":
            needs = ", which needs a GPU" if self.quantization == "nf4" else ""
            raise conflict(
                f"dtype: expected bfloat16 with model.quantization={self.quantization}{needs}; it "
                f"is the type in which layers multiply; received {self.dtype}"
            )
        # bitsandbytes' layers keep 4 bits for the backward pass, and unpack them again.
        if self.quantization == "int8" and not self.gradient_checkpointing:
            raise conflict(
                "gradient_checkpointing: expected true with model.quantization=int8, since "
                "autograd would keep every layer's weight in 16 bits; received false"
            )
        return self


class FlowPromptsSection(Section):
    """Prompts that are trained on, and prompts that are kept for evaluation."""

    train: Annotated[PromptSource, Trainable] = Field(
        default="scenes:train",
        description="scenes:train, scenes:held_out, drawbench-style, art-style, drawbench:PATH, "
        "geneval:PATH, partiprompts:PATH, pickapic:PATH, the path of a .txt, .jsonl, .json, "
        ".csv or .parquet file, or a data set (a folder, or its Hub id). Any but scenes: may end "
        "in :train or :held_out, one of two fixed halves (docs/use/prompts.md).",
    )
    held_out: PromptSource = Field(
        default="scenes:held_out",
        description="Prompts that training never sees; sources as for train, and scenes:test, "
        "which is for final tables.",
    )
    train_size: Count = Field(
        default=600,
        description="Prompts that a scenes: set has; a file is taken whole. Ours.",
    )
    held_out_size: Count = Field(
        default=102,
        description="Prompts that a scenes: set has; a file is taken whole. Ours.",
    )
    negative_prompt: (
        Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] | None
    ) = Field(
        default=None,
        description="What guidance leads away from, for every prompt whose row has no column of "
        "this name; null: no prompt, as in diffusers' calls. Without effect where guidance is off, "
        "and refused for models whose guidance is distilled. Ours.",
    )

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        if share_prompts(self.train, self.held_out):
            raise conflict(
                "held_out: expected a source without prompts of prompts.train, "
                f"received {self.held_out!r} beside {self.train!r}"
            )
        return self


class SamplingSection(Section):
    """Sampler of images: solver of dx/dt = v from noise (t = 0) to data (t = 1)."""

    steps: Count = Field(default=10, description="Intervals of the time grid. Ours.")
    solver: Literal["euler", "heun", "dpmpp_2m"] = Field(
        default="euler",
        description="euler; heun, second order at two model calls an interval; or dpmpp_2m, second "
        "order at one. Ours.",
    )
    guidance_scale: GuidanceScale = Field(
        default=1.0,
        description="Guidance; 1 is off. An input of the network for FLUX.1-dev; for Z-Image the "
        "pipeline's number plus 1. Ours.",
    )


class FlowTrainingSection(TrainingSection):
    timesteps_per_sample: Count = Field(
        default=1,
        description="Points (t, x_0) of the path at which each image is used; the paper's 1.",
    )
    timestep_sampling: Literal["stratified", "uniform", "logit_normal"] = Field(
        default="stratified",
        description="How those times are drawn; with one time, stratified is the paper's U(0, 1).",
    )
    optimizer: Literal["adamw", "adamw_8bit"] = Field(
        default="adamw",
        description="adamw_8bit keeps its two moments in 8 bits (Dettmers et al., arXiv "
        "2110.02861) and needs the package bitsandbytes. Ours.",
    )
    ema_decay: Annotated[float, Field(strict=True, ge=0, lt=1)] | None = Field(
        default=None,
        description="Evaluate and keep a moving average of the adapter; null: the last. Ours.",
    )
    guidance_scale: GuidanceScale = Field(
        default=1.0, description="Guidance inside the training velocity; 1 is off. Ours."
    )


class DistancesSection(Section):
    """Distances between sets of images, by the features of one network."""

    features: Text = Field(
        description="Network of the features: embedded, embedded-evaluation, or a folder or Hub id "
        "of a vision model of transformers, such as facebook/dinov2-base; a CLIP gives its image "
        "embedding, not normalized.",
    )
    references: Text | None = Field(
        default=None,
        description="A folder of pictures: `frechet_distance` and `kernel_distance` to them. "
        "scenes: to pictures of the captions by the scenes world's own renderer. null: "
        "`frechet_drift` and `kernel_drift`, from what the frozen base draws of the same prompts "
        "and noises, which is drawn once more for it.",
    )


BY_CLIP = ("clip_score_evaluation", "clip_diversity", "clip_diversity_l2", "clip_diversity_right")
"""Metrics that ``evaluation.clip`` is asked for."""


class FlowEvaluationSection(EvaluationSection):
    """Measurements while training, on fixed prompts and noises."""

    samples_per_prompt: Annotated[Count, Field(ge=2)] = Field(
        default=4, description="Samples of each prompt, at least 2: diversity compares them. Ours."
    )
    clip: Text | None = Field(
        default="embedded-evaluation",
        description="CLIP of clip_score_evaluation and clip_diversity, not the reward's; null: "
        "neither is measured. Ours.",
    )
    distances: DistancesSection | None = Field(
        default=None,
        description="Measured at every evaluation: when images are to stay near photographs, or "
        "near the base's, as a set; null: not measured. Ours.",
    )
    strip_prompts: Count = Field(
        default=6, description="Prompts of the strip over time; all, where there are fewer. Ours."
    )
    sampling: SamplingSection = Field(
        default=SamplingSection(steps=20), description="Sampler of the evaluation. Ours."
    )

    @model_validator(mode="after")
    def _stops_by_what_is_measured(self) -> Self:
        watched = self.early_stopping
        if self.clip is None and watched is not None and without_ending(watched) in BY_CLIP:
            raise conflict(
                f"early_stopping: expected a metric that is measured, received {watched!r}, which "
                f"takes a judge, with clip: null; name a CLIP, or another metric"
            )
        return self


class FlowConfig(Configuration):
    """Configuration of a run of ``adrpo.flow.FlowTrainer``."""

    renamed = {"algorithm.beta": Renamed("algorithm.beta_0", (int, float), method="flow_grpo")}  # noqa: RUF012

    domain: Literal["flow"] = Field(default="flow", description="Kind of model.")
    model: FlowModelSection = FlowModelSection()
    adapter: AdapterSection = AdapterSection()
    prompts: FlowPromptsSection = FlowPromptsSection()
    reward: RewardTerms = (RewardTermSection(name="clip_score", options={"model": "embedded"}),)
    algorithm: AlgorithmSection = AdrpoSection()
    training: FlowTrainingSection = FlowTrainingSection()
    evaluation: FlowEvaluationSection = FlowEvaluationSection()
    sampling: SamplingSection = SamplingSection()

    @property
    def guidance_scales(self) -> dict[str, float]:
        """The guidance that images are drawn, measured, trained or held to the reference with, by
        its key."""
        scales = {
            "sampling": self.sampling.guidance_scale,
            "evaluation.sampling": self.evaluation.sampling.guidance_scale,
            "training": self.training.guidance_scale,
        }
        found = {f"{section}.guidance_scale": scale for section, scale in scales.items()}
        anchor = getattr(self.algorithm, "anchor_guidance_scale", None)
        return found if anchor is None else found | {"algorithm.anchor_guidance_scale": anchor}

    def notices(self) -> list[str]:
        return [*told_of_guidance(self), *told_of_toys(self)]

    @model_validator(mode="after")
    def _trajectories_fit(self) -> Self:
        """Refuse what doesn't fit a method that learns from the points of its own trajectories."""
        method = self.algorithm.method
        if method not in OWN_TRAJECTORIES:
            return self
        drawn_by, ratio = OWN_TRAJECTORIES[method]
        for key, wanted, received in (
            ("sampling.solver", "euler", self.sampling.solver),
            ("training.timesteps_per_sample", 1, self.training.timesteps_per_sample),
        ):
            if received != wanted:
                raise conflict(
                    f"{key}: expected {wanted} with algorithm.method={method}, which draws by "
                    f"{drawn_by}; received {received}"
                )
        drawn, trained = self.sampling.guidance_scale, self.training.guidance_scale
        if trained != drawn:
            raise conflict(
                f"training.guidance_scale: expected {drawn}, the value of sampling.guidance_scale, "
                f"with algorithm.method={method}, {ratio} on policy only so; received {trained}; "
                "set both to the same number"
            )
        return self

    @model_validator(mode="after")
    def _sde_fits(self) -> Self:
        if self.algorithm.method == "flow_grpo" and self.sampling.steps < 2:
            raise conflict(
                "sampling.steps: expected at least 2 with algorithm.method=flow_grpo, whose last "
                f"step has no noise; received {self.sampling.steps}"
            )
        return self

    @model_validator(mode="after")
    def _pairs_fit(self) -> Self:
        if not isinstance(self.algorithm, FdfoSection):
            return self
        each, steps, points = (
            self.training.samples_per_prompt,
            self.sampling.steps,
            self.algorithm.points,
        )
        if each % 2:
            raise conflict(
                f"training.samples_per_prompt: expected an even number with algorithm.method=fdfo, "
                f"which draws the samples of a prompt in pairs; received {each}"
            )
        if points is not None and points > steps:
            raise conflict(
                f"algorithm.points: expected at most {steps}, the points of a trajectory of as "
                f"many sampling.steps; received {points}; null is all of them"
            )
        return self

    @model_validator(mode="after")
    def _normalized_rewards_fit(self) -> Self:
        chosen, algorithm = self.training.reward_normalization, self.algorithm
        wrong = None
        if chosen != "none" and isinstance(algorithm, DpoSection) and algorithm.pairs is not None:
            wrong = "none with algorithm.pairs, whose images no reward has put in order"
        elif chosen == "running" and isinstance(algorithm, DpoSection):
            wrong = "none or group with algorithm.method=dpo, whose pairs are drawn before the run"
        elif chosen == "group" and self._ranks_across_prompts():
            wrong = (
                "none or running with the schedule gated, which ranks the samples of all prompts "
                "by their reward"
            )
        if wrong is not None:
            raise conflict(f"training.reward_normalization: expected {wrong}; received {chosen}")
        return self

    def _ranks_across_prompts(self) -> bool:
        schedule = getattr(self.algorithm, "coefficient", None)
        return schedule is not None and bool(schedule.scorers)

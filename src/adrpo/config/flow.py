"""What a configuration may say: sections, fields, units, bounds, and what excludes what.

"Paper" is arXiv 2510.18053. "Ours" marks what the paper leaves open and this package chose.
A check of one field is a bound of that field or raises ``refusal``; a check of several keys
raises ``conflict``. The section ``algorithm`` has one form for each method
(:mod:`adrpo.config.algorithms`).
"""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from adrpo.config.algorithms import AdrpoSection, AlgorithmSection
from adrpo.config.fields import (
    Count,
    GuidanceScale,
    NonNegativeCount,
    NonNegativeNumber,
    PositiveNumber,
    Section,
    Text,
    conflict,
    refusal,
    refuse_empty,
)
from adrpo.config.rewards import RewardTermSection, check_measured_rewards
from adrpo.data.prompts import SCENES_SETS, check_source, share_prompts
from adrpo.errors import AdrpoError


class FlowModelSection(Section):
    """The frozen base model."""

    pretrained: Text = Field(
        default="embedded",
        description="'embedded', a folder in diffusers' layout, or a Hub id. Paper: SD3 medium.",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32",
        description="Type of the base weights; the adapter is float32 always. Ours.",
    )
    max_sequence_length: Count | None = Field(
        default=None,
        description="Tokens of the long prompt encoding (T5 of SD3); null: as many as the "
        "pipeline's own call takes, and 1 for the embedded model, which has no T5.",
    )
    height: Count | None = Field(
        default=None, description="Image height in pixels; null is the model's own. Ours."
    )
    width: Count | None = Field(
        default=None, description="Image width in pixels; null is the model's own. Ours."
    )
    device: str = Field(
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
    gradient_checkpointing: bool = Field(
        default=False,
        description="Keep only the transformer blocks' inputs for the backward pass, and compute "
        "the rest again: less memory, about a third more time an update. Ours.",
    )
    vae_tiling: bool = Field(
        default=False,
        description="Decode large images in overlapping tiles, blended at their seams. Ours.",
    )
    vae_slicing: bool = Field(default=False, description="Decode one image at a time. Ours.")
    quantization: Literal["int8"] | None = Field(
        default=None,
        description="int8: the transformer's frozen weights in 8 bits, with a scale for each "
        "output of a layer; needs bfloat16, gradient_checkpointing and the package torchao. Ours.",
    )

    compile: bool = Field(
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
            raise conflict(
                f"dtype: expected bfloat16 with model.quantization={self.quantization}, the type "
                f"in which torchao multiplies; received {self.dtype}"
            )
        if not self.gradient_checkpointing:
            raise conflict(
                f"gradient_checkpointing: expected true with model.quantization="
                f"{self.quantization}, since autograd would keep every layer's weight in 16 bits; "
                f"received false"
            )
        return self


class AdapterSection(Section):
    """The LoRA adapter that is trained (Hu et al., arXiv 2106.09685)."""

    rank: Count = Field(default=16, description="Rank r of the update B A. Ours.")
    alpha: PositiveNumber = Field(
        default=16.0, description="The update is scaled by alpha / rank. Ours."
    )
    target_modules: Annotated[tuple[Text, ...], AfterValidator(refuse_empty)] | None = Field(
        default=None,
        description="Endings of the adapted layers' names; null: the family's attention. Ours.",
    )


class FlowPromptsSection(Section):
    """Which prompts are trained on, and which are kept for evaluation."""

    train: Text = Field(
        default="scenes:train",
        description="scenes:train, scenes:held_out, drawbench-style, art-style, drawbench:PATH, "
        "geneval:PATH, partiprompts:PATH, pickapic:PATH, or the path of a .txt or .jsonl file; "
        "all but scenes: take :train or :held_out at the end, for half of them.",
    )
    held_out: Text = Field(
        default="scenes:held_out",
        description="Prompts that training never sees; sources as for train.",
    )
    train_size: Count = Field(
        default=600, description="Number of prompts, of scenes: sets only. Ours."
    )
    held_out_size: Count = Field(
        default=102, description="Number of prompts, of scenes: sets only. Ours."
    )

    @field_validator("train", "held_out")
    @classmethod
    def _known_source(cls, value: str) -> str:
        try:
            return check_source(value)
        except AdrpoError as error:
            raise refusal(str(error)) from None

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        if share_prompts(self.train, self.held_out):
            raise conflict(
                "held_out: expected a source without prompts of prompts.train, "
                f"received {self.held_out!r} beside {self.train!r}"
            )
        return self


class SamplingSection(Section):
    """How images are drawn: solver of dx/dt = v from noise (t = 0) to data (t = 1)."""

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


class FlowTrainingSection(Section):
    """One step: sample, score, weigh, update."""

    steps: Count = Field(default=100, description="Updates of the adapter. Ours.")
    prompts_per_step: Count = Field(default=8, description="Groups in a batch. Ours.")
    samples_per_prompt: Count = Field(
        default=8, description="Images of one group, at least 2. Ours."
    )
    timesteps_per_sample: Count = Field(
        default=1,
        description="Points (t, x_0) of the path at which each image is used; the paper's 1.",
    )
    timestep_sampling: Literal["stratified", "uniform", "logit_normal"] = Field(
        default="stratified",
        description="How those times are drawn; with one time, stratified is the paper's U(0, 1).",
    )
    micro_batch_size: Count = Field(
        default=64,
        description="Rows in memory at once; a memory knob that never changes the result.",
    )
    optimizer: Literal["adamw", "adamw_8bit"] = Field(
        default="adamw",
        description="adamw_8bit keeps its two moments in 8 bits (Dettmers et al., arXiv "
        "2110.02861) and needs the package bitsandbytes. Ours.",
    )
    learning_rate: PositiveNumber = Field(
        default=1.0e-3, description="AdamW's learning rate after the warm-up. Ours."
    )
    learning_rate_schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant",
        description="How the learning rate falls after the warm-up, to 0 at the run's end. Ours.",
    )
    warmup_steps: NonNegativeCount = Field(
        default=0, description="Steps over which the learning rate rises linearly. Ours."
    )
    weight_decay: NonNegativeNumber = Field(default=0.0, description="AdamW's decay. Ours.")
    max_grad_norm: PositiveNumber = Field(
        default=1.0, description="Bound of the gradient's L2 norm. Ours."
    )
    ema_decay: Annotated[float, Field(strict=True, ge=0, lt=1)] | None = Field(
        default=None,
        description="Evaluate and keep a moving average of the adapter; null: the last. Ours.",
    )
    guidance_scale: GuidanceScale = Field(
        default=1.0, description="Guidance inside the training velocity; 1 is off. Ours."
    )
    seed: NonNegativeCount = Field(default=0, description="Seed of every random stream.")

    @model_validator(mode="after")
    def _groups_and_warmup(self) -> Self:
        if self.samples_per_prompt < 2:
            raise conflict(
                "samples_per_prompt: expected at least 2, received 1; "
                "a group of size 1 has no advantage"
            )
        if self.warmup_steps > self.steps:
            raise conflict(
                f"warmup_steps: expected at most training.steps = {self.steps}, "
                f"received {self.warmup_steps}"
            )
        return self


class FlowEvaluationSection(Section):
    """What is measured while training, on fixed prompts and noises."""

    every: Count = Field(default=50, description="Steps between evaluations. Ours.")
    samples_per_prompt: Annotated[int, Field(strict=True, ge=2)] = Field(
        default=4, description="Images a prompt, at least 2: diversity compares them. Ours."
    )
    clip: Text = Field(
        default="embedded-evaluation",
        description="CLIP of clip_score_evaluation and clip_diversity; not the reward's. Ours.",
    )
    rewards: tuple[RewardTermSection, ...] = Field(
        default=(), description="Rewards that are measured and never trained on. Ours."
    )
    seen_prompts: NonNegativeCount = Field(
        default=0, description="Training prompts that are evaluated, too, and apart. Ours."
    )
    early_stopping: Text | None = Field(
        default=None,
        description="Metric of held-out prompts that must go on rising; null never stops. Ours.",
    )
    patience: Count = Field(
        default=2, description="Evaluations without a new best value that stop the run. Ours."
    )
    strip_prompts: Count = Field(default=6, description="Prompts of the strip over time. Ours.")
    sampling: SamplingSection = Field(
        default=SamplingSection(steps=20), description="Sampler of the evaluation. Ours."
    )
    batch_size: Count = Field(default=64, description="Images in memory at once. Ours.")
    seed: NonNegativeCount = Field(default=1234, description="Seed of the fixed noises. Ours.")


class CheckpointSection(Section):
    """What a resumed run starts from."""

    every: Count = Field(default=10, description="Steps between checkpoints. Ours.")
    keep: Count = Field(default=2, description="Number of the latest checkpoints kept. Ours.")


class FlowConfig(Section):
    """Everything that decides a run of ``adrpo.flow.FlowTrainer``."""

    domain: Literal["flow"] = Field(default="flow", description="Kind of model.")
    description: str = Field(default="", description="One line: what the recipe is.")
    source: str = Field(
        default="", description="Where the values come from: equations, and what is our choice."
    )
    model: FlowModelSection = FlowModelSection()
    adapter: AdapterSection = AdapterSection()
    prompts: FlowPromptsSection = FlowPromptsSection()
    reward: Annotated[tuple[RewardTermSection, ...], AfterValidator(refuse_empty)] = (
        RewardTermSection(name="clip_score", options={"model": "embedded"}),
    )
    algorithm: AlgorithmSection = AdrpoSection()
    sampling: SamplingSection = SamplingSection()
    training: FlowTrainingSection = FlowTrainingSection()
    evaluation: FlowEvaluationSection = FlowEvaluationSection()
    checkpoint: CheckpointSection = CheckpointSection()

    @model_validator(mode="after")
    def _sde_fits(self) -> Self:
        if self.algorithm.method != "flow_grpo":
            return self
        for key, wanted, received in (
            ("sampling.solver", "euler", self.sampling.solver),
            ("training.timesteps_per_sample", 1, self.training.timesteps_per_sample),
        ):
            if received != wanted:
                raise conflict(
                    f"{key}: expected {wanted} with algorithm.method=flow_grpo, which draws by "
                    f"Euler-Maruyama steps and trains on each of them; received {received}"
                )
        if self.sampling.steps < 2:
            raise conflict(
                "sampling.steps: expected at least 2 with algorithm.method=flow_grpo, whose last "
                f"step has no noise; received {self.sampling.steps}"
            )
        drawn, trained = self.sampling.guidance_scale, self.training.guidance_scale
        if trained != drawn:
            raise conflict(
                f"training.guidance_scale: expected {drawn}, the value of sampling.guidance_scale, "
                "with algorithm.method=flow_grpo, whose ratio of a step's densities is 1 on policy "
                f"only so; received {trained}; set both to the same number"
            )
        return self

    @model_validator(mode="after")
    def _measured_rewards_have_names(self) -> Self:
        check_measured_rewards(self.evaluation.rewards, self.reward)
        return self

    @model_validator(mode="after")
    def _strip_fits(self) -> Self:
        size, strip = self.prompts.held_out_size, self.evaluation.strip_prompts
        if self.prompts.held_out in SCENES_SETS and strip > size:
            raise conflict(
                f"evaluation.strip_prompts: expected at most prompts.held_out_size = {size}, "
                f"received {strip}"
            )
        return self

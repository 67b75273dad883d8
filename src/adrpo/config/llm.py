"""What a configuration of the domain ``llm`` may say; conventions as in :mod:`.schema`."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from adrpo.config.fields import (
    Count,
    NonNegativeCount,
    NonNegativeNumber,
    PositiveNumber,
    Section,
    Switch,
    Text,
    conflict,
    refuse_empty,
)
from adrpo.config.flow import CheckpointSection
from adrpo.config.rewards import RewardTermSection, check_measured_rewards

Share = Annotated[float, Field(gt=0, le=1)]


class LanguageModelSection(Section):
    """The model that is trained, and at its start the reference."""

    pretrained: Text = Field(
        default="embedded",
        description="'embedded', a folder, a Hub id, or 'package:NAME', the folder of an installed "
        "Python package. Paper: Qwen2-0.5B and Qwen3-0.6B.",
    )
    gguf_file: Text | None = Field(
        default=None,
        description="GGUF file there, unpacked to dtype as it is loaded; null: safetensors. Ours.",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="Type of the weights, of the optimizer's state, too. Ours."
    )
    autocast: Literal["bfloat16"] | None = Field(
        default=None, description="Type of the arithmetic on float32 weights; null: theirs. Ours."
    )
    gradient_checkpointing: Switch = Field(
        default=False, description="Compute activations twice instead of keeping them. Ours."
    )
    chat_template_kwargs: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Arguments of the chat template, as enable_thinking: false for Qwen3.",
    )
    device: Literal["auto", "cpu"] = Field(
        default="auto", description="auto takes a GPU if there is one."
    )


class LanguageAdapterSection(Section):
    """The LoRA adapter that is trained instead of all weights (Hu et al., arXiv 2106.09685)."""

    rank: Count = Field(default=16, description="Rank r of the update B A. Ours.")
    alpha: PositiveNumber = Field(
        default=16.0, description="The update is scaled by alpha / rank. Ours."
    )
    target_modules: Annotated[tuple[Text, ...], AfterValidator(refuse_empty)] = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj"),
        description="Endings of the adapted layers' names. Ours.",
    )


class LanguagePromptsSection(Section):
    """Which prompts are trained on, and which are kept for evaluation."""

    source: Text = Field(
        default="questions",
        description="'questions', 'sums', the path of a .jsonl or .csv file, a folder of a data "
        "set, or the Hub id of one. Paper: RLHFlow/test_generation_2k.",
    )
    column: Text | None = Field(
        default=None, description="Column of the prompts; null: the data set's own, or 'prompt'."
    )
    held_out: Share = Field(
        default=0.1,
        description="Share of the prompts that training never sees; 'questions' has a split of "
        "its own, by combination. Paper: 0.1.",
    )
    split_seed: NonNegativeCount = Field(default=0, description="Seed of that split.")
    train_size: Count | None = Field(
        default=1000, description="Prompts at most; null takes all, but of 'questions'. Ours."
    )
    held_out_size: Count | None = Field(
        default=105, description="Prompts at most; null takes all, but of 'questions'. Ours."
    )

    @model_validator(mode="after")
    def _questions_are_counted(self) -> Self:
        if self.source == "questions" and None in (self.train_size, self.held_out_size):
            raise conflict(
                "train_size: expected train_size and held_out_size with source 'questions', whose "
                "number has no end; received null"
            )
        return self


class LanguageAlgorithmSection(Section):
    """GRPO with a KL coefficient per sample (paper, eq. 7); docs/use/llm.md has every option."""

    method: Literal["adrpo", "sign_gated", "fixed_beta"] = Field(
        default="adrpo",
        description="Coefficient: beta_0 - A; 0, beta_0 or 2 beta_0 by the sign of A; or beta_0.",
    )
    beta_0: NonNegativeNumber = Field(
        default=0.04, description="Coefficient of the KL at A = 0. Paper: 0.04."
    )
    advantage_clip: PositiveNumber | None = Field(
        default=None,
        description="A is clipped to +- this in the coefficient; null: to beta_0. Paper: beta_0.",
    )
    clip_policy_advantage: Switch = Field(
        default=False, description="Clip the A of the policy gradient, too. Ours."
    )
    negative_coefficient: Literal["refuse", "floor", "allow"] = Field(
        default="refuse", description="What holds where advantage_clip > beta_0. Ours."
    )
    kl_estimator: Literal["k1", "k2", "k3"] = Field(
        default="k3", description="Estimator of the token KL. GRPO: k3."
    )
    log_ratio_bound: PositiveNumber | None = Field(
        default=20.0, description="Greatest |log pi_ref - log pi| in the KL, in nats. Ours."
    )
    kl_on_degenerate_groups: Switch = Field(
        default=True, description="Whether groups of equal rewards have the KL term. GRPO: true."
    )
    target_kl: PositiveNumber | None = Field(
        default=None, description="KL that a controller of beta_0 holds; null keeps beta_0. Ours."
    )
    advantage_scale: Literal["group", "batch", "none"] = Field(
        default="group", description="Standard deviation that divides A = R - V. GRPO: group."
    )
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"] = (
        Field(default="grpo", description="TRL's form of the policy gradient. Paper: grpo.")
    )
    bias_correction: Switch = Field(
        default=False,
        description="TRL's use_bias_correction_kl, which changes the KL's gradient. Paper: false.",
    )

    @model_validator(mode="after")
    def _has_a_reference(self) -> Self:
        if self.beta_0 == 0 and (self.method != "fixed_beta" or self.target_kl is not None):
            raise conflict(
                "beta_0: expected a number above 0, received 0; for GRPO without a reference set "
                "method: fixed_beta and target_kl: null"
            )
        clip = self.advantage_clip
        if self.method == "adrpo" and self.negative_coefficient == "refuse" and clip is not None:
            if clip > self.beta_0 or self.target_kl is not None:
                raise conflict(
                    f"advantage_clip: expected at most beta_0 = {self.beta_0}, received {clip}, "
                    "with which beta_0 - A can be negative; lower it, or set "
                    "negative_coefficient to floor or allow"
                )
        return self


class GenerationSection(Section):
    """How completions are drawn."""

    max_completion_length: Count = Field(default=16, description="Tokens at most. Ours.")
    temperature: PositiveNumber = Field(default=1.0, description="Of the softmax. Ours.")
    top_p: Share = Field(default=1.0, description="Mass of the nucleus; 1 is off. Ours.")


class LanguageTrainingSection(Section):
    """One step: sample, score, weigh, update."""

    steps: Count = Field(default=100, description="Batches of completions. Ours.")
    prompts_per_step: Count = Field(default=16, description="Groups in a batch. Ours.")
    samples_per_prompt: Count = Field(
        default=8, description="Completions of one group, at least 2. Paper's TRL: 8."
    )
    micro_batch_size: Count = Field(
        default=64,
        description="Completions in memory at once; divides the batch. A memory knob.",
    )
    learning_rate: PositiveNumber = Field(
        default=1.0e-3, description="AdamW's learning rate after the warm-up. Ours."
    )
    learning_rate_schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="How it falls after the warm-up, to 0 at the end. Ours."
    )
    warmup_steps: NonNegativeCount = Field(
        default=0, description="Steps over which the learning rate rises linearly. Ours."
    )
    weight_decay: NonNegativeNumber = Field(default=0.0, description="AdamW's decay. Ours.")
    max_grad_norm: PositiveNumber = Field(
        default=1.0, description="Bound of the gradient's L2 norm. Ours."
    )
    seed: NonNegativeCount = Field(default=0, description="Seed of every random stream.")

    @model_validator(mode="after")
    def _geometry(self) -> Self:
        if self.samples_per_prompt < 2:
            raise conflict(
                "samples_per_prompt: expected at least 2, received 1; "
                "a group of size 1 has no advantage"
            )
        batch = self.prompts_per_step * self.samples_per_prompt
        if batch % min(self.micro_batch_size, batch):
            raise conflict(
                f"micro_batch_size: expected a divisor of prompts_per_step x samples_per_prompt "
                f"= {batch}, received {self.micro_batch_size}"
            )
        if self.warmup_steps > self.steps:
            raise conflict(
                f"warmup_steps: expected at most training.steps = {self.steps}, "
                f"received {self.warmup_steps}"
            )
        return self


class LanguageEvaluationSection(Section):
    """What is measured on prompts that training never sees, with fixed random streams."""

    every: Count = Field(default=50, description="Steps between evaluations. Ours.")
    samples_per_prompt: Count = Field(default=4, description="Completions a prompt. Ours.")
    rewards: tuple[RewardTermSection, ...] = Field(
        default=(), description="Rewards that are measured and never trained on. Ours."
    )
    shown_prompts: Count = Field(default=12, description="Prompts kept for the report. Ours.")
    batch_size: Count = Field(default=256, description="Completions in memory at once. Ours.")
    seed: NonNegativeCount = Field(default=1234, description="Seed of its random streams. Ours.")


class LanguageConfig(Section):
    """Everything that decides a run of the domain ``llm``."""

    domain: Literal["llm"] = Field(default="llm", description="Kind of model.")
    description: str = Field(default="", description="One line: what the recipe is.")
    source: str = Field(
        default="", description="Where the values come from: equations, and what is our choice."
    )
    model: LanguageModelSection = LanguageModelSection()
    adapter: LanguageAdapterSection | None = Field(
        default=None, description="LoRA; null trains all weights. Paper: all."
    )
    prompts: LanguagePromptsSection = LanguagePromptsSection()
    reward: Annotated[tuple[RewardTermSection, ...], AfterValidator(refuse_empty)] = (
        RewardTermSection(name="question_answer"),
    )
    algorithm: LanguageAlgorithmSection = LanguageAlgorithmSection()
    generation: GenerationSection = GenerationSection()
    training: LanguageTrainingSection = LanguageTrainingSection()
    evaluation: LanguageEvaluationSection = LanguageEvaluationSection()
    checkpoint: CheckpointSection = CheckpointSection()

    @model_validator(mode="after")
    def _measured_rewards_have_names(self) -> Self:
        check_measured_rewards(self.evaluation.rewards, self.reward)
        return self

"""Configurations of the domain ``llm``; conventions as in :mod:`adrpo.config.flow`."""

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from adrpo.config.fields import (
    Count,
    Dtype,
    NonNegativeCount,
    NonNegativeNumber,
    PositiveNumber,
    Renamed,
    Section,
    Share,
    Switch,
    Text,
    conflict,
    refusal,
    with_default,
)
from adrpo.config.llm_options import (
    BETA_0,
    COEFFICIENTS,
    KIND,
    CoefficientSection,
    wrong_combination,
)
from adrpo.config.rewards import RewardTerms, RewardTermSection
from adrpo.config.shared import (
    AdapterSection,
    Configuration,
    EvaluationSection,
    LayerNames,
    MethodSection,
    ModelSection,
    PromptSource,
    Trainable,
    TrainingSection,
)
from adrpo.data.prompts import GENERATED, share_prompts, training_source
from adrpo.errors import AdrpoError


class CompletionModelSection(ModelSection):
    """The model that is trained to complete prompts, and at its start the reference."""

    dtype: Dtype = Field(
        default="float32",
        description="Type of the weights, of the optimizer's state, too; all weights are trained "
        "in float32 (adapter: null), an adapter's always. Ours.",
    )
    autocast: Literal["bfloat16"] | None = Field(
        default=None, description="Type of the arithmetic on float32 weights; null: theirs. Ours."
    )
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2"] | None = Field(
        default=None,
        description="Attention of transformers; null: what it takes for the model. Ours.",
    )
    quantization: Literal["nf4"] | None = Field(
        default=None,
        description="nf4: the frozen weights of linear layers in 4 bits, with a scale for every "
        "64 (QLoRA, arXiv 2305.14314); needs an adapter and the package bitsandbytes. Ours.",
    )
    chat_template_kwargs: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Arguments of the chat template, as enable_thinking: false for Qwen3.",
    )
    device: Literal["auto", "cpu"] = Field(
        default="auto", description="auto takes a GPU if there is one."
    )

    @model_validator(mode="after")
    def _one_type_of_arithmetic(self) -> Self:
        if self.quantization is not None and self.autocast is not None:
            raise conflict(
                f"autocast: expected null with model.quantization={self.quantization}, whose "
                f"layers multiply in model.dtype; received {self.autocast}; set "
                f"model.dtype={self.autocast}"
            )
        return self


class LanguageModelSection(CompletionModelSection):
    """The language model that is trained, and at its start the reference."""

    pretrained: Text = Field(
        default="embedded",
        description="'embedded', a folder, a Hub id, or 'package:NAME', the folder of an installed "
        "Python package. Paper: Qwen2-0.5B and Qwen3-0.6B.",
    )
    gguf_file: Text | None = Field(
        default=None,
        description="GGUF file there, unpacked to dtype as it is loaded; null: safetensors. Ours.",
    )

    @model_validator(mode="after")
    def _quantised_once(self) -> Self:
        if self.quantization is not None and self.gguf_file is not None:
            raise conflict(
                f"quantization: expected null with model.gguf_file, whose weights are unpacked to "
                f"model.dtype; received {self.quantization}"
            )
        return self


class LanguageAdapterSection(AdapterSection):
    """The LoRA adapter that is trained instead of all weights (Hu et al., arXiv 2106.09685)."""

    target_modules: LayerNames = Field(
        default=("q_proj", "k_proj", "v_proj", "o_proj"),
        description="Endings of the adapted layers' names. Ours.",
    )


class LanguagePromptsSection(Section):
    """Prompts that are trained on, and prompts that are kept for evaluation."""

    source: Annotated[Text, Trainable] = Field(
        default="questions",
        description="'questions', 'sums', the path of a .txt, .jsonl, .json, .csv or .parquet "
        "file, a data set (a folder, or its Hub id), or another source of docs/use/prompts.md. "
        "Paper: RLHFlow/test_generation_2k.",
    )
    column: Text | None = Field(
        default=None, description="Column of the prompts; null: the data set's own, or 'prompt'."
    )
    cut_answers: Switch = Field(
        default=False,
        description="Cut the assistant's turn that ends a conversation, which is the answer; false "
        "refuses such a conversation. Ours.",
    )
    held_out: PromptSource | None = Field(
        default=None,
        description="Prompts that training never sees, from a source of their own, which is "
        "named as in every domain (docs/use/prompts.md); null: a share of source. Ours.",
    )
    held_out_share: Share = Field(
        default=0.1,
        description="Share of the prompts of source that training never sees, with held_out: "
        "null; 'questions' has a split of its own, by combination. Paper: 0.1.",
    )
    split_seed: NonNegativeCount = Field(default=0, description="Seed of that split.")
    train_size: Count | None = Field(
        default=1000,
        description="Prompts that 'questions' has, and at most so many of another source, of which "
        "null takes all. Ours.",
    )
    held_out_size: Count | None = Field(
        default=105,
        description="Prompts that 'questions' has, and at most so many of another source, of which "
        "null takes all. Ours.",
    )

    @model_validator(mode="after")
    def _questions_are_counted(self) -> Self:
        if self.source == "questions" and None in (self.train_size, self.held_out_size):
            raise conflict(
                "train_size: expected train_size and held_out_size with source 'questions', whose "
                "number has no end; received null"
            )
        if self.held_out in GENERATED and self.held_out_size is None:
            raise conflict(
                f"held_out_size: expected a number with held_out {self.held_out!r}, which has no "
                f"end; received null"
            )
        return self

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        train = training_source(self.source)
        if self.held_out is not None and share_prompts(train, self.held_out):
            raise conflict(
                "held_out: expected a source without prompts of prompts.source, "
                f"received {self.held_out!r} beside {self.source!r}"
            )
        return self


UNKNOWN_TO_GRPO = ("gated", "mixture")
"""Schedules that the loss of language and audio models can't take."""


class LanguageAlgorithmSection(CoefficientSection, MethodSection):
    """GRPO with a KL coefficient per sample (paper, eq. 7; docs/use/llm.md)."""

    loss = "grpo"
    papers = {"adaptive": "ADRPO (2510.18053)", "fixed": "GRPO (2402.03300)"}  # noqa: RUF012

    method: Literal["adrpo", "sign_gated", "reward_adaptive", "fixed_beta"] = Field(
        default="adrpo", description=KIND
    )
    beta_0: NonNegativeNumber = Field(default=0.04, description=BETA_0)
    advantage_scale: Literal["none", "group", "global"] = Field(
        default="group",
        description="Standard deviation that divides A = R - V: the group's, or that of all "
        "rewards of the batch, between groups, too (global, TRL's scale_rewards=batch). "
        "GRPO: group.",
    )
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"] = (
        Field(default="grpo", description="TRL's form of the policy gradient. Paper: grpo.")
    )
    bias_correction: Switch = Field(
        default=False,
        description="TRL's use_bias_correction_kl, which changes the KL's gradient. Paper: false.",
    )

    @property
    def schedule_name(self) -> str:
        """Name of the schedule of the KL's coefficient."""
        return COEFFICIENTS[self.method]

    @model_validator(mode="before")
    @classmethod
    def _check_no_other_schedule(cls, section: object) -> object:
        if not isinstance(section, dict):
            return section
        key = "coefficient" if "coefficient" in section else "method"
        if key == "coefficient" or section.get("method") in UNKNOWN_TO_GRPO:
            raise conflict(
                f"{key}: expected method: {', '.join(COEFFICIENTS)}, by which GRPO's coefficient "
                f"is chosen; a gate reads other scorers and remembers, and so may a mixture, and a "
                f"batch of TRL carries neither; received {section[key]!r}"
            )
        return section

    @field_validator("advantage_scale", mode="before")
    @classmethod
    def _named_as_everywhere(cls, value: object) -> object:
        if value == "batch":
            raise refusal(
                "expected 'none', 'group' or 'global', which is TRL's 'batch': the standard "
                "deviation of all rewards, and not that within groups; received 'batch'"
            )
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        wrong = wrong_combination(self, kind=COEFFICIENTS[self.method], beta_0=self.beta_0)
        if wrong is not None:
            raise conflict(wrong)
        return self


class GenerationSection(Section):
    """Sampler of completions."""

    max_completion_length: Count = Field(
        default=16, description="Tokens of a completion at most. Ours."
    )
    temperature: PositiveNumber = Field(
        default=1.0, description="Temperature of the softmax. Ours."
    )
    top_p: Share = Field(default=1.0, description="Mass of the nucleus; 1 is off. Ours.")


class LanguageTrainingSection(TrainingSection):
    prompts_per_step: Count = with_default(TrainingSection, "prompts_per_step", 16)
    micro_batch_size: Count = Field(
        default=64,
        description="Completions in memory at once; divides the batch. A memory knob.",
    )

    @model_validator(mode="after")
    def _parts_are_equal(self) -> Self:
        batch = self.prompts_per_step * self.samples_per_prompt
        if batch % min(self.micro_batch_size, batch):
            raise conflict(
                f"micro_batch_size: expected a divisor of prompts_per_step x samples_per_prompt "
                f"= {batch}, received {self.micro_batch_size}"
            )
        return self


class LanguageEvaluationSection(EvaluationSection):
    shown_prompts: Count = Field(default=12, description="Prompts kept for the report. Ours.")
    batch_size: Count = Field(
        default=256,
        description="Samples in memory at once, which are drawn from one random stream. Ours.",
    )


class CompletionConfig(Configuration):
    """Base of the configurations of models that complete prompts."""

    model: CompletionModelSection
    adapter: LanguageAdapterSection | None
    algorithm: LanguageAlgorithmSection = LanguageAlgorithmSection()
    training: LanguageTrainingSection = LanguageTrainingSection()
    evaluation: LanguageEvaluationSection = LanguageEvaluationSection()
    generation: GenerationSection = GenerationSection()

    @model_validator(mode="after")
    def _quantised_under_an_adapter(self) -> Self:
        if self.model.quantization is not None and self.adapter is None:
            raise conflict(
                f"adapter: expected one with model.quantization={self.model.quantization}, whose "
                f"weights are frozen; received null: set 'adapter={{rank: 16}}'"
            )
        return self

    def check_trains(self) -> None:
        super().check_trains()
        if self.adapter is None and self.model.dtype == "float16":
            raise AdrpoError(
                "model.dtype: expected float32 with adapter: null, which trains all weights, "
                "received float16, in which AdamW's moments underflow; set model.dtype=float32 and "
                "model.autocast=bfloat16 for arithmetic in 16 bits, or train an adapter"
            )


class LanguageConfig(CompletionConfig):
    """Configuration of a run of ``adrpo.llm.LanguageRun``."""

    # The old one was a share, today's is a source.
    renamed = {"prompts.held_out": Renamed("prompts.held_out_share", (int, float))}  # noqa: RUF012

    domain: Literal["llm"] = Field(default="llm", description="Kind of model.")
    model: LanguageModelSection = LanguageModelSection()
    adapter: LanguageAdapterSection | None = Field(
        default=None, description="LoRA; null trains all weights. Paper: all."
    )
    prompts: LanguagePromptsSection = LanguagePromptsSection()
    reward: RewardTerms = (RewardTermSection(name="question_answer"),)

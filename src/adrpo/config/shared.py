"""Sections that every domain has, and the head of a configuration: each key described once.

A domain extends them by what is its own (:mod:`adrpo.config.flow`, :mod:`adrpo.config.llm`). It
describes one of these keys again only where the key means something else there.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from adrpo.config.fields import (
    Count,
    Dtype,
    NonNegativeCount,
    NonNegativeNumber,
    PositiveNumber,
    Renamed,
    Section,
    Switch,
    Text,
    conflict,
    refusal,
    refuse_empty,
)
from adrpo.config.rewards import MeasuredRewardSection, RewardTerms, check_names, written_names
from adrpo.config.trackers import Trackers, check_installed
from adrpo.data.prompts import FINAL, check_source
from adrpo.errors import AdrpoError
from adrpo.metrics import TOTAL, describe, without_ending

LayerNames = Annotated[tuple[Text, ...], AfterValidator(refuse_empty)]


def _known_source(value: str) -> str:
    try:
        return check_source(value)
    except AdrpoError as error:
        raise refusal(str(error)) from None


def _not_final(value: str) -> str:
    if value == FINAL:
        raise refusal(
            f"expected prompts to train on, received {value!r}, which is kept for final tables; "
            f"evaluate on it by prompts.held_out"
        )
    return value


PromptSource = Annotated[Text, AfterValidator(_known_source)]
"""The name of a source of prompts, which means the same in every domain."""

Trainable = AfterValidator(_not_final)
"""Refuses a source that is not for training."""


Normalization = Literal["none", "group", "running"]
"""Statistics that each term of the reward is normalised by (:mod:`adrpo.core.reward_sums`)."""


class ModelSection(Section):
    """The model that is trained."""

    pretrained: Text = Field(default="embedded", description="'embedded', a folder or a Hub id.")
    dtype: Dtype = Field(default="float32", description="Type of the weights. Ours.")
    gradient_checkpointing: Switch = Field(
        default=False,
        description="Keep only the inputs of the blocks for the backward pass, and compute the "
        "rest again: less memory, about a third more time an update. Ours.",
    )
    device: Text = Field(default="auto", description="auto takes an accelerator if there is one.")


Rank = Annotated[int, Field(strict=True, gt=0, le=65_536)]
"""Wider than any layer that is adapted."""


class AdapterSection(Section):
    """The LoRA adapter that is trained (Hu et al., arXiv 2106.09685)."""

    rank: Rank = Field(default=16, description="Rank r of the update B A. Ours.")
    alpha: PositiveNumber = Field(
        default=16.0, description="The update is scaled by alpha / rank. Ours."
    )
    target_modules: LayerNames | None = Field(
        default=None,
        description="Endings of the adapted layers' names; null: the family's attention. Ours.",
    )
    start_from: Text | None = Field(
        default=None,
        description="File or folder of a LoRA adapter to go on with, as one of supervised "
        "training, of this rank and these layers; null: a new one, which changes nothing yet.",
    )
    reference: Literal["start", "base"] = Field(
        default="start",
        description="The reference beside start_from: the policy at step 0, or the bare base. "
        "Ours.",
    )


class MethodSection(Section):
    """Base of the section ``algorithm``, whose key ``method`` names the method."""

    loss: ClassVar[str] = ""
    """Name of the loss, which several methods may have with other schedules of the penalty."""

    papers: ClassVar[Mapping[str, str]] = {}
    """Schedule of the penalty -> whose method the loss is with it."""

    method: str = Field(description="Which method this is.")

    @property
    def schedule_name(self) -> str | None:
        """Name of the schedule of the penalty; None without a penalty."""
        coefficient = getattr(self, "coefficient", None)
        return (
            None if coefficient is None or getattr(self, "beta_0", 1) == 0 else coefficient.schedule
        )


class TrainingSection(Section):
    """One step: sample, score, weigh, update."""

    steps: Count = Field(default=100, description="Batches, each drawn and learned from. Ours.")
    prompts_per_step: Count = Field(default=8, description="Groups in a batch. Ours.")
    samples_per_prompt: Count = Field(
        default=8, description="Samples of one group, at least 2. Ours."
    )
    micro_batch_size: Count = Field(
        default=64,
        description="Rows in memory at once; a memory knob that changes the result by rounding "
        "alone.",
    )
    reward_normalization: Normalization = Field(
        default="none",
        description="Each term of the reward to mean 0 and standard deviation 1 before it is "
        "weighed and summed (docs/extend/add-a-reward.md): among the samples of its prompt (group; "
        "TRL's normalize_then_sum, GDPO, arXiv 2601.05242), or by all samples of the run so far "
        "(running); none: as they are. Only training reads it. Ours.",
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


class EvaluationSection(Section):
    """Measurements while training, on fixed prompts and with fixed random streams."""

    every: Count = Field(default=50, description="Steps between evaluations. Ours.")
    samples_per_prompt: Count = Field(default=4, description="Samples of each prompt. Ours.")
    rewards: tuple[MeasuredRewardSection, ...] = Field(
        default=(), description="Rewards that are measured and never trained on. Ours."
    )
    seen_prompts: NonNegativeCount = Field(
        default=0, description="Training prompts that are evaluated, too, and apart. Ours."
    )
    early_stopping: Text | None = Field(
        default=None,
        description="Metric of held-out prompts that must go on getting better; null never stops. "
        "Ours.",
    )
    patience: Count = Field(
        default=2, description="Evaluations without a new best value that stop the run. Ours."
    )
    batch_size: Count = Field(default=64, description="Samples in memory at once. Ours.")
    seed: NonNegativeCount = Field(default=1234, description="Seed of its random streams. Ours.")

    @model_validator(mode="after")
    def _stops_by_what_gets_better(self) -> Self:
        if self.early_stopping is None:
            return self
        watched = describe(without_ending(self.early_stopping))
        if watched.better == "neither" or watched.against_base:
            reason = (
                "of which neither more nor less is better"
                if watched.better == "neither"
                else "of which the untrained model has the least"
            )
            raise conflict(
                f"early_stopping: expected a metric that training may improve, received "
                f"{self.early_stopping!r}, {reason}; name a reward or a judge, or null"
            )
        return self


class CheckpointSection(Section):
    """Checkpoints, from which a stopped run goes on."""

    every: Count = Field(default=10, description="Steps between checkpoints. Ours.")
    keep: Count = Field(default=2, description="Number of the latest checkpoints kept. Ours.")


class Configuration(Section):
    """Configuration of a run of any domain: the head, and the sections that all have."""

    renamed: ClassVar[Mapping[str, Renamed]] = {}
    """The old dotted name of a key -> what became of it."""

    domain: str = Field(description="Kind of model.")
    description: str = Field(default="", description="One line: what the recipe is.")
    source: str = Field(
        default="", description="Where the values come from: equations, and what is our choice."
    )
    model: ModelSection
    adapter: AdapterSection | None
    prompts: Section
    reward: RewardTerms
    algorithm: MethodSection
    training: TrainingSection
    evaluation: EvaluationSection
    checkpoint: CheckpointSection = CheckpointSection()
    trackers: Trackers = ()

    def check_trains(self) -> None:
        """Raise AdrpoError where these settings can measure a model, but not train it."""
        check_installed(self.trackers)

    def notices(self) -> list[str]:
        """Sentences on settings that are allowed and hardly meant, each with its key first."""
        return []

    @model_validator(mode="after")
    def _rewards_have_names(self) -> Self:
        check_names(self.evaluation.rewards, self.reward)
        return self

    @model_validator(mode="after")
    def _stops_by_no_term_that_is_lowered(self) -> Self:
        watched = self.evaluation.early_stopping
        names = written_names(term.name for term in self.reward)
        for name, term in zip(names, self.reward, strict=True):
            if term.weight < 0 and watched is not None and without_ending(watched) == name:
                raise conflict(
                    f"evaluation.early_stopping: expected a metric of which more is better, "
                    f"received {watched!r}, a term of the reward with the weight {term.weight:g}; "
                    f"name the whole reward, {TOTAL!r}"
                )
        return self

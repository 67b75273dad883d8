"""Configurations of the domain ``audio``: those of the domain llm, for models that hear."""

from typing import Literal

from pydantic import Field

from adrpo.config.audio_prompts import AudioPromptsSection
from adrpo.config.fields import Text
from adrpo.config.llm import CompletionConfig, CompletionModelSection, LanguageAdapterSection
from adrpo.config.rewards import RewardTerms, RewardTermSection


class AudioModelSection(CompletionModelSection):
    """The audio-language model that is trained, and at its start the reference."""

    pretrained: Text = Field(
        default="embedded",
        description="'embedded', a folder or a Hub id of Qwen2.5-Omni or of its Thinker. Paper: "
        "Qwen2.5-Omni-7B.",
    )


class AudioConfig(CompletionConfig):
    """Configuration of a run of ``adrpo.audio.AudioRun``."""

    domain: Literal["audio"] = Field(default="audio", description="Kind of model.")
    model: AudioModelSection = AudioModelSection()
    adapter: LanguageAdapterSection | None = Field(
        default=LanguageAdapterSection(),
        description="LoRA on the language model; null trains all of its weights. The audio encoder "
        "is frozen. Ours.",
    )
    prompts: AudioPromptsSection = AudioPromptsSection()
    reward: RewardTerms = (RewardTermSection(name="multiple_choice", options={"whole": True}),)

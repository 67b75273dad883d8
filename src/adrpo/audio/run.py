"""A run of the domain ``audio``: that of the domain llm, on questions about sound."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from datasets import Dataset
from torch import nn

from adrpo.audio.data import (
    by_clip_and_words,
    by_content,
    check_clips,
    from_anywhere,
    load_held_out,
    load_train,
    warn_of_shared_clips,
)
from adrpo.audio.drawing import AnswerDrawing
from adrpo.audio.facts import EMBEDDED, FACTS
from adrpo.audio.pretrained import check_hears, language_modules
from adrpo.audio.processor import AudioProcessor
from adrpo.audio.trainer import COLUMN, AudioADRPOTrainer
from adrpo.data.base import Prompt
from adrpo.errors import AdrpoError
from adrpo.llm.arguments import lora
from adrpo.llm.drawing import CompletionDrawing
from adrpo.llm.pretrained import reading_model
from adrpo.llm.run import LanguageRun
from adrpo.runs.facts import Facts
from adrpo.runs.inputs import Inputs


class AudioRun(LanguageRun):
    """Trains an audio-language model by a configuration, as ``adrpo train`` does.

    Everything is in :class:`~adrpo.audio.trainer.AudioADRPOTrainer`; this is for those who want a
    run directory with its evaluations and its report instead of a script of their own.
    """

    facts: ClassVar[Facts] = FACTS
    embedded: ClassVar[str] = EMBEDDED
    drawing: ClassVar[type[CompletionDrawing]] = AnswerDrawing

    def check_kind(self) -> Any:
        return check_hears(self.source)

    @cached_property
    def processor(self) -> AudioProcessor:
        """The model's tokenizer and feature extractor."""
        with reading_model(self.source):
            found = AudioProcessor.from_pretrained(self.source)
        for name in ("feature_size", "sampling_rate", "hop_length", "chunk_length"):
            value = getattr(found.feature_extractor, name, None)
            if not isinstance(value, int | float) or value <= 0:
                raise AdrpoError(
                    f"model.pretrained: expected a positive {name} in preprocessor_config.json of "
                    f"{self.source}, received {value!r}; download it again"
                )
        heard = getattr(self.check_kind(), "audio_config", None)
        bins = getattr(heard, "num_mel_bins", found.feature_extractor.feature_size)
        if bins != found.feature_extractor.feature_size:
            raise AdrpoError(
                f"model.pretrained: expected feature_size {bins} in preprocessor_config.json of "
                f"{self.source}, which its encoder reads; received "
                f"{found.feature_extractor.feature_size}; download it again"
            )
        return found

    def load_train(self) -> list[Prompt]:
        found = self.heard(load_train(self.config.prompts), progress=self.processes.is_main)
        if self.config.prompts.held_out is not None:
            warn_of_shared_clips(found, self.held_out)
        return found

    def load_held_out(self) -> list[Prompt]:
        return self.heard(load_held_out(self.config.prompts), progress=self.processes.is_main)

    def heard(self, prompts: Sequence[Prompt], *, progress: bool) -> list[Prompt]:
        """The ``prompts`` whose clips the model can hear, with progress bar or without; errors as
        of :func:`~adrpo.audio.data.check_clips`."""
        if all(prompt.columns.get(COLUMN) is None for prompt in prompts):
            return list(prompts)  # a user's own, which are about no clip
        extractor = self.processor.feature_extractor
        return check_clips(
            prompts,
            longest=extractor.chunk_length,
            faulty=self.config.prompts.faulty,
            progress=progress,
        )

    def inputs(self) -> Inputs:
        return Inputs(
            train=[by_content(prompt) for prompt in self.prompts],
            held_out=[by_content(prompt) for prompt in self.held_out],
            key=by_clip_and_words,
            reward=self.own_reward,
            copy=[from_anywhere(prompt) for prompt in self.held_out],
        )

    def training_set(self, prompts: Sequence[Prompt]) -> Dataset:
        clips = [prompt.columns.get(COLUMN) for prompt in prompts]
        return super().training_set(prompts).add_column(COLUMN, clips)

    def processing(self) -> AudioProcessor:
        return self.processor

    def new_trainer(self, **arguments: Any) -> AudioADRPOTrainer:
        adapter = lora(self.config.adapter)
        if adapter is not None:
            adapter.target_modules = language_modules(self.config.adapter.target_modules)
        return AudioADRPOTrainer(peft_config=adapter, **arguments)

    def _reference(self, trainer: Any) -> nn.Module | None:
        reference = super()._reference(trainer)
        if reference is not None:
            trainer.admit(reference)
        return reference

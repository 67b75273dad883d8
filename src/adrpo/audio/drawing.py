"""Answers of an audio-language model for its evaluation."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile

from adrpo.audio.data import by_clip_and_words
from adrpo.audio.sound import sources_of, waveform
from adrpo.audio.trainer import COLUMN
from adrpo.data.base import Prompt
from adrpo.llm.drawing import CompletionDrawing
from adrpo.llm.turns import thought_opening, whole_turns
from adrpo.rewards.multiple_choice import MultipleChoice
from adrpo.runs.directory import RunDirectory
from adrpo.runs.durable import write_durably

CLIPS = "clips"
"""Folder in samples/ with the sound of the questions that are shown."""


class AnswerDrawing(CompletionDrawing):
    """Draws the answers to one split of questions about sound and measures them; an
    :class:`~adrpo.evaluation.evaluator.Drawing`."""

    def known_as(self, prompt: Prompt) -> str:
        return by_clip_and_words(prompt)

    def judged(self, columns: Mapping[str, list[Any]]) -> dict[str, Sequence[float | None]]:
        if not {"answer", "choices"} <= columns.keys():
            return {}
        options = self.config.model.chat_template_kwargs
        opening = thought_opening(self.trainer.processing_class, options)
        turns = {"completions": whole_turns(columns["completions"], opening)}
        return {"gold_accuracy": MultipleChoice(whole=True)(**{**columns, **turns})}

    def attached(self, run: RunDirectory, prompt: int) -> dict[str, Any]:
        clips = []
        columns = self.prompts[prompt].columns
        for place, source in enumerate(sources_of(columns.get(COLUMN))):
            clip = f"{CLIPS}/{prompt}-{place}.flac"
            self._write(source, run.samples / clip)
            clips.append(clip)
        return {"clips": clips, "answer": columns.get("answer")}

    def _write(self, source: Any, path: Path) -> None:
        """Write the sound of ``source`` as the model hears it; FLAC plays in browsers."""
        if path.is_file():
            return
        trainer: Any = self.trainer
        extractor = trainer.processor.feature_extractor
        samples = waveform(source, extractor.sampling_rate)
        file = io.BytesIO()
        soundfile.write(file, samples, extractor.sampling_rate, format="FLAC", subtype="PCM_16")
        path.parent.mkdir(exist_ok=True)
        write_durably(path, file.getvalue())

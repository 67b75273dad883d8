"""A language model, or one that hears, in a playground."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from adrpo.data.base import Prompt
from adrpo.evaluation.playing import Asked, Played, scaled_adapter, scores_of, with_columns
from adrpo.llm.run import LanguageRun, LanguageSubject, finite_probabilities


class TextPlayer:
    """Completions of the model of ``subject``; a :class:`~adrpo.evaluation.playing.Player`.

    They are drawn as in evaluations and by ``adrpo sample`` for one prompt: the same seed gives the
    same completion. ``asking`` makes a prompt of a text and its clips.

    The strength of an adapter is its scale. Without one, all weights lie between those of the base
    and those that were trained, or beyond them on the same line.
    """

    steps: int | None = None

    def __init__(
        self,
        run: LanguageRun,
        subject: LanguageSubject,
        asking: Callable[[list[str], list[Path]], list[Prompt]],
        *,
        hears: bool,
    ) -> None:
        self.prompts: Sequence[Prompt] = run.held_out
        self.hears = hears
        self.run = run
        self.subject = subject
        self.asking = asking
        model: Any = subject.trainer.accelerator.unwrap_model(subject.trainer.model)
        self.model = model
        self._own = [value for value in model.parameters() if value.requires_grad]
        self._first = [value.detach().clone() for value in self._own]
        self._worn: Path | None = None

    def base(self, asked: Asked) -> Played:
        with self._weights(lambda own, first: first):
            return self._draw(asked)

    def tuned(self, weights: Path, asked: Asked) -> Played:
        if weights != self._worn:
            self._worn = None  # until it has all of them
            self.subject.take(weights)
            self._worn = weights
        strength = asked.strength
        if isinstance(self.model, PeftModel):
            with scaled_adapter(self.model, strength):
                return self._draw(asked)
        if strength == 1:
            return self._draw(asked)
        with self._weights(lambda own, first: first + strength * (own - first)):
            return self._draw(asked)

    @contextmanager
    def _weights(self, chosen: Callable[[Any, Any], Any]) -> Iterator[None]:
        """Weights that ``chosen`` makes of the model's and the base's stand in for the model's."""
        before = [value.data for value in self._own]
        try:
            for value, own, first in zip(self._own, before, self._first, strict=True):
                value.data = chosen(own, first)
            yield
        finally:
            for value, own in zip(self._own, before, strict=True):
                value.data = own

    @torch.no_grad()
    def _draw(self, asked: Asked) -> Played:
        run, drawing = self.run, self.subject.evaluator.drawing
        clips = [] if asked.clip is None else [asked.clip]
        prompts = [
            with_columns(prompt, self.prompts, clip=asked.clip)
            for prompt in self.asking([asked.prompt], clips)
        ]
        settings = {"samples_per_prompt": 1, "seed": asked.seed}
        section = run.config.evaluation.model_copy(update=settings)
        config = run.config.model_copy(update={"evaluation": section})
        own: Any = drawing
        one = run.drawing(config, own.trainer, own.reference, run.heard(prompts, progress=False))
        with finite_probabilities():
            drawn = one.draw()
        scores, errors = scores_of(run.terms, run.others, one.columns(drawn))
        measured = {name: float(values[0, 0]) for name, values in one.measure(drawn).items()}
        return Played(sample=drawn.texts[0], scores=scores | measured, errors=errors)

"""The meaning of clips and questions of the sounds world."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

TASKS = ("sound", "music", "speech")
LEVELS = ("easy", "medium", "hard")
LETTERS = "ABCD"

Split = Literal["train", "held_out", "test"]

Timing = Literal["after", "with", "inside"]
"""An event's time against the one before it: after its end, from its start to its end, or within
it."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """One sound of a clip: a kind of :mod:`adrpo.embedded.sounds.synthesis`, an instrument or a
    word."""

    name: str
    voice: str | None = None
    """The speaker of a word; None for every other sound."""
    pitches: tuple[int, ...] = ()
    """The MIDI numbers that an instrument plays together."""
    beats: float = 1.0
    """Length in beats; a word and a click have their own."""
    decibels: float = 0.0
    """Level (root of the mean square) against that of an event at 0."""
    timing: Timing = "after"


@dataclass(frozen=True, kw_only=True)
class Clip:
    """The meaning of one clip: what is heard, and how it lies in time.

    Tempo, transposition, levels, background noise and every other circumstance is drawn when the
    clip is rendered.
    """

    task: str
    events: tuple[Event, ...]


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A question before its choices have an order.

    ``combination`` is what the clip composes, whatever its order: the unit of the split.
    """

    text: str
    choices: tuple[str, ...]
    answer: str
    clip: Clip
    combination: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """One multiple-choice question; ``render(question.clip, question.seed)`` is its sound."""

    clip: Clip
    seed: int
    text: str
    choices: tuple[str, ...]
    answer: str
    task: str
    difficulty: str
    category: str
    sub_category: str
    combination: str

    @property
    def letter(self) -> str:
        """The letter of the right choice: A, B, C or D."""
        return LETTERS[self.choices.index(self.answer)]


def prompt_text(question: Question) -> str:
    """The question as a model reads it: its text and its choices, a line each."""
    return "\n".join([question.text, *question.choices, ""])


Drawing = Callable[[np.random.Generator, str], Iterator[Draft]]
"""Function of a generator and a level: endless drafts of one text, the same choices and the same
answer, each with another clip. So the draw of a split, which waits for a clip of the split, leaves
every answer as likely as before."""


@dataclass(frozen=True, kw_only=True)
class SubCategory:
    """A kind of question; ``category`` is what it asks for."""

    task: str
    category: str
    draw: Drawing


def pick(rng: np.random.Generator, names: tuple[str, ...], size: int) -> list[str]:
    """``size`` different ones of ``names``, in random order."""
    return [names[place] for place in rng.permutation(len(names))[:size]]


def joined(*parts: object) -> str:
    """A combination's name."""
    return "|".join(map(str, parts))

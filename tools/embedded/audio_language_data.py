"""Batches of questions with their clips, from which the embedded audio-language model learns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from adrpo.embedded.sounds.meaning import LEVELS, Event, Question, prompt_text
from adrpo.embedded.sounds.music import CHORDS, INTERVALS, LOWEST
from adrpo.embedded.sounds.rendering import Rendering, rendering_of
from adrpo.embedded.sounds.sets import SUB_CATEGORIES, sample_question
from adrpo.embedded.sounds.synthesis import INSTRUMENTS, KINDS
from adrpo.embedded.sounds.words import RATE, VOICES, WORDS
from tools.embedded.audio_language_parts import (
    AUDIO,
    AUDIO_END,
    AUDIO_START,
    FRAMES_A_TOKEN,
    HOP,
    new_processor,
)
from tools.embedded.audio_language_questions import more_questions

IGNORED = -100
"""transformers' label of a token without a loss."""

ROW = 256
"""Tokens of a row, which is filled with whole questions."""

NAMES = (*KINDS, *INSTRUMENTS, *WORDS, *VOICES)
PITCHES = 52
"""Semitones from one under the lowest root."""
COUNTS = ("one", "two", "three", "four", "five")
FACTS = ("L", "S", "rises", "falls", "other voice", *CHORDS, *INTERVALS, *COUNTS)
"""Facts of an event beside others: long or short in a rhythm, its pitch against the last one's, its
voice, its chord or interval, and how many of its name there were with it."""
FIRST_FACT = len(NAMES) + PITCHES
BEGINS = FIRST_FACT + len(FACTS)
LEVEL = BEGINS + 1
TARGETS = LEVEL + 1
"""Numbers that tell what is heard in a token: names, pitches, facts, a beginning, and the level."""

WRONG_SHARE = 0.45
"""Share of spoilt answers."""
ELSEWHERE = 0.05
"""Share of the wrong answers that are the right answer to another question of the kind."""


@dataclass(frozen=True, eq=False)
class Example:
    """A question as the model takes it."""

    question: Question
    features: Float[Tensor, "mels frames"]
    targets: Float[Tensor, "tokens targets"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Examples in rows of ``ROW`` tokens; ``mask`` lets a token see the earlier ones of its own
    question and those of its clip only."""

    features: Float[Tensor, "mels all_frames"]
    frames: Int[Tensor, " clips"]
    targets: Float[Tensor, "all_tokens targets"]
    tokens: Int[Tensor, "rows tokens"]
    labels: Int[Tensor, "rows tokens"]
    places: Int[Tensor, "rows tokens"]
    mask: Bool[Tensor, "rows 1 tokens tokens"]


class Group(NamedTuple):
    """Tokens of a clip, and of its questions, each with its answer."""

    heard: list[int]
    questions: list[tuple[list[int], list[int]]]

    @property
    def size(self) -> int:
        """Tokens in all."""
        return len(self.heard) + sum(len(prompt) + len(told) for prompt, told in self.questions)


def heard_in(
    question: Question, rendering: Rendering, tokens: int
) -> Float32[np.ndarray, "tokens targets"]:
    """Targets of each token: the share of its time in which a name or pitch is heard; 1 where an
    event begins; the level against the loudest event, in tens of decibels."""
    targets = np.zeros((tokens, TARGETS), np.float32)
    starts = np.arange(tokens) * FRAMES_A_TOKEN * HOP
    events = question.clip.events
    loudest = max(event.decibels for event in events)
    for number, (event, (begin, end)) in enumerate(zip(events, rendering.spans, strict=True)):
        shared = np.minimum(starts + FRAMES_A_TOKEN * HOP, end) - np.maximum(starts, begin)
        share = np.clip(shared / (FRAMES_A_TOKEN * HOP), 0, 1)
        told = [(FIRST_FACT + FACTS.index(fact), 1.0) for fact in facts(events, number)]
        for place, weight in [*_places(event, rendering.transposed), *told]:
            targets[:, place] = np.maximum(targets[:, place], weight * share)
        targets[min(begin // (FRAMES_A_TOKEN * HOP), tokens - 1), BEGINS] = 1
        targets[:, LEVEL] += share * (event.decibels - loudest) / 10
    return targets


def facts(events: Sequence[Event], number: int) -> Iterator[str]:
    """Facts of one of ``events``."""
    event, before = events[number], events[:number]
    if event.name in INSTRUMENTS and len({one.beats for one in events}) > 1:
        yield "L" if event.beats == max(one.beats for one in events) else "S"
    root, above = min(event.pitches, default=0), {*event.pitches}
    yield from (name for name, steps in CHORDS.items() if above == {root + step for step in steps})
    if len(above) == 2:
        yield from _interval(max(above) - root)
    if before and len(above) == len(before[-1].pitches) == 1:
        step = root - before[-1].pitches[0]
        yield from ["rises"] * (step > 0) + ["falls"] * (step < 0)
        yield from _interval(abs(step))
    if before and event.voice not in (None, before[-1].voice):
        yield "other voice"
    yield from COUNTS[sum(one.name == event.name for one in before) :][:1]


def _interval(semitones: int) -> Iterator[str]:
    yield from (name for name, size in INTERVALS.items() if size == semitones)


def _places(event: Event, transposed: float) -> Iterator[tuple[int, float]]:
    """Targets of an event, with their weights; a pitch lies between two semitones."""
    yield NAMES.index(event.name), 1.0
    if event.voice is not None:
        yield NAMES.index(event.voice), 1.0
    for pitch in event.pitches:
        place = pitch + transposed - (LOWEST - 14)
        low = int(np.floor(place))
        for semitone in (low, low + 1):
            if 0 <= semitone < PITCHES:
                yield len(NAMES) + semitone, 1 - abs(place - semitone)


def near_miss(question: Question, rng: np.random.Generator) -> str:
    """A wrong answer of the kind that a slip gives: the choice nearest to the right one where they
    are numbers or intervals, else any other; now and then one that is no choice."""
    others = [choice for choice in question.choices if choice != question.answer]
    if rng.random() < ELSEWHERE:
        return _elsewhere(question, rng)
    for scale in SCALES:
        if question.answer in scale:
            far = [abs(scale.index(other) - scale.index(question.answer)) for other in others]
            chances = np.exp2(-np.asarray(far, float))
            return str(rng.choice(others, p=chances / chances.sum()))
    return str(rng.choice(others))


SCALES = (
    tuple(INTERVALS),
    COUNTS,
    ("never", "once", "twice", "three times"),
    ("the first", "the second", "the third", "the fourth"),
)
"""Answers with an order, in which a slip is a small one."""


def _elsewhere(question: Question, rng: np.random.Generator) -> str:
    while True:
        other = sample_question(rng, question.sub_category, question.difficulty, "train")
        choices = [choice for choice in other.choices if choice not in question.choices]
        if choices:
            return str(rng.choice(choices))
        if set(other.choices) == set(question.choices):
            return str(rng.choice([c for c in question.choices if c != question.answer]))


class Examples:
    """Questions of the training split with fresh clips, at random."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.processor = new_processor()
        self.cells = [(name, level) for name in SUB_CATEGORIES for level in LEVELS]

    def draw(self) -> Example:
        name, level = self.cells[int(self.rng.integers(len(self.cells)))]
        question = sample_question(self.rng, name, level, "train")
        rendering = rendering_of(question.clip, question.seed)
        clip = {"array": rendering.samples, "sampling_rate": RATE}
        features = self.processor.features(clip)
        targets = heard_in(question, rendering, clip_tokens(features.shape[1]))
        return Example(question, features.half(), torch.from_numpy(targets).half())


def clip_tokens(frames: int) -> int:
    """Tokens of a clip of ``frames`` frames, as the tower makes them."""
    return ((frames - 1) // 2 - 1) // 2 + 1


class Packing:
    """Clips in rows, first come first served, each with its questions, whose choices get a new
    order; beside its own, up to ``more`` other questions of a clip.

    ``spoilt`` answers are wrong to the share of ``WRONG_SHARE``.
    """

    def __init__(self, tokenizer: Any, seed: int, more: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.tokenizer = tokenizer
        self.more = more
        self._known: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        if text not in self._known:
            self._known[text] = self.tokenizer(text).input_ids
        return self._known[text]

    def _told(self, question: Question, *, spoilt: bool) -> tuple[list[int], list[int]]:
        """Tokens of a question, and its answer with its end."""
        order = self.rng.permutation(len(question.choices))
        question = replace(question, choices=tuple(question.choices[place] for place in order))
        answer = question.answer
        if spoilt and self.rng.random() < WRONG_SHARE:
            answer = near_miss(question, self.rng)
        lines = prompt_text(question).split("\n")[:-1]
        prompt = [token for line in lines for piece in (line, "\n") for token in self.ids(piece)]
        return prompt, [*self.ids(answer), self.tokenizer.eos_token_id]

    def _group(self, example: Example, *, spoilt: bool) -> Group:
        heard = self.ids(AUDIO_START + AUDIO * len(example.targets) + AUDIO_END)
        asked = [example.question]
        if self.more:
            asked += more_questions(example.question, self.rng, self.more)
        group = Group(heard, [])
        for question in asked:
            told = self._told(question, spoilt=spoilt)
            if group.size + len(told[0]) + len(told[1]) <= ROW:
                group.questions.append(told)
        return group

    def __call__(self, examples: Sequence[Example], *, spoilt: bool) -> Batch:
        rows: list[list[Group]] = [[]]
        for example in examples:
            group = self._group(example, spoilt=spoilt)
            if sum(other.size for other in rows[-1]) + group.size > ROW:
                rows.append([])
            rows[-1].append(group)
        laid = [_laid(row, self.tokenizer.pad_token_id) for row in rows]
        tokens, labels, places, clips, questions = map(
            torch.from_numpy, map(np.stack, zip(*laid, strict=True))
        )
        own = clips[:, :, None] == clips[:, None, :]
        seen = (questions[:, None, :] == 0) | (questions[:, :, None] == questions[:, None, :])
        return Batch(
            torch.cat([example.features for example in examples], dim=1).float(),
            torch.tensor([example.features.shape[1] for example in examples]),
            torch.cat([example.targets for example in examples]).float(),
            tokens,
            labels,
            places,
            (own & seen).tril()[:, None],
        )


def _laid(row: Sequence[Group], pad: int) -> tuple[np.ndarray, ...]:
    """Tokens, labels, places, numbers of clips and of questions (0: the clip) of one row."""
    tokens, labels = np.full(ROW, pad), np.full(ROW, IGNORED)
    places, clips, questions = np.zeros(ROW, int), np.full(ROW, -1), np.zeros(ROW, int)
    start = 0
    for number, group in enumerate(row):
        pieces = [(group.heard, 0), *((p + t, len(p)) for p, t in group.questions)]
        for part, (piece, told_from) in enumerate(pieces):
            place = slice(start, start + len(piece))
            tokens[place], clips[place], questions[place] = piece, number, part
            # A question stands where it would if it were the only one.
            first = len(group.heard) if part else 0
            places[place] = np.arange(first, first + len(piece))
            if part:
                labels[start + told_from : place.stop] = piece[told_from:]
            start = place.stop
    return tokens, labels, places, clips, questions


Drawn = tuple[Question, np.ndarray, np.ndarray]
"""An example whose features and targets are NumPy's: tensors of another process would hold a file
open each, for as long as they are kept."""


class Stream(IterableDataset):
    """Lists of ``size`` examples, as a process hands them to another."""

    def __init__(self, size: int, *, batches: int, seed: int) -> None:
        self.size, self.batches, self.seed = size, batches, seed

    def __iter__(self) -> Iterator[list[Drawn]]:
        torch.set_num_threads(1)
        examples = Examples(self.seed)
        for _ in range(self.batches):
            drawn = [examples.draw() for _ in range(self.size)]
            yield [(one.question, one.features.numpy(), one.targets.numpy()) for one in drawn]


def drawn_beside(size: int, *, batches: int, seed: int) -> Iterator[list[Example]]:
    """Lists of examples, drawn by a process of their own."""
    stream = Stream(size, batches=batches, seed=seed)
    loader: Any = DataLoader(
        stream, batch_size=None, num_workers=1, prefetch_factor=8, collate_fn=_as_it_is
    )
    for drawn in loader:
        yield [
            Example(question, torch.from_numpy(features), torch.from_numpy(targets))
            for question, features, targets in drawn
        ]


def _as_it_is(drawn: list[Drawn]) -> list[Drawn]:
    return drawn

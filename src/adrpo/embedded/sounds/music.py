"""Questions on music: intervals, chords, melodies, rhythms and instruments."""

from collections.abc import Iterator
from itertools import product

import numpy as np

from adrpo.embedded.sounds.meaning import Clip, Draft, Event, SubCategory, joined, pick
from adrpo.embedded.sounds.synthesis import INSTRUMENTS

INTERVALS = {
    "minor second": 1,
    "major second": 2,
    "minor third": 3,
    "major third": 4,
    "perfect fourth": 5,
    "tritone": 6,
    "perfect fifth": 7,
    "octave": 12,
}
"""Name -> semitones."""

CHORDS = {
    "major": (0, 4, 7),
    "minor": (0, 3, 7),
    "diminished": (0, 3, 6),
    "augmented": (0, 4, 8),
}
"""Name -> semitones above the root."""

DIRECTIONS = ("it rises", "it falls", "it peaks in the middle", "it dips in the middle")

RHYTHMS = {
    level: tuple("".join(beats) for beats in product("LS", repeat=size) if len(set(beats)) == 2)
    for level, size in (("easy", 3), ("medium", 4), ("hard", 5))
}
"""Level -> the rhythms of three, four and five notes that have both lengths, such as LSL."""

LOWEST = 57
"""MIDI number of the lowest root; the others lie within the octave above it."""


def _root(rng: np.random.Generator) -> int:
    return LOWEST + int(rng.integers(12))


def _draft(
    text: str, choices: tuple[str, ...], answer: str, events: list[Event], *composed: object
) -> Draft:
    clip = Clip(task="music", events=tuple(events))
    combination = joined("music", *composed)
    return Draft(text=text, choices=choices, answer=answer, clip=clip, combination=combination)


def _interval(rng: np.random.Generator, level: str) -> Iterator[Draft]:
    """Two notes in turn, from choices that lie apart (easy) or any; at once on the hard level."""
    names = list(INTERVALS)
    if level == "easy":
        first = int(rng.integers(2))
        names = names[first::2]
    elif level == "hard":
        # The octave above a note is one of its own partials.
        names.remove("octave")
    choices = tuple(pick(rng, tuple(names), 4))
    answer = str(rng.choice(choices))
    text = "What is the interval between the two notes?"
    while True:
        instrument, root = str(rng.choice(INSTRUMENTS)), _root(rng)
        pitches = (root, root + INTERVALS[answer])
        if level == "hard":
            events = [Event(name=instrument, pitches=pitches, beats=2.5)]
        else:
            ordered = pitches if rng.integers(2) else pitches[::-1]
            events = [Event(name=instrument, pitches=(pitch,), beats=1.5) for pitch in ordered]
        yield _draft(text, choices, answer, events, instrument, root % 12, answer)


def _chord(rng: np.random.Generator, level: str) -> Iterator[Draft]:
    """The notes of a chord in turn and then at once (easy), at once, or at once and inverted."""
    choices = tuple(CHORDS)
    answer = str(rng.choice(choices))
    while True:
        instrument, root = str(rng.choice(INSTRUMENTS)), _root(rng)
        pitches = [root + step for step in CHORDS[answer]]
        if level == "hard":
            lowered = 1 + int(rng.integers(2))
            pitches = [*pitches[lowered:], *(pitch + 12 for pitch in pitches[:lowered])]
        events = [Event(name=instrument, pitches=tuple(pitches), beats=2.5)]
        if level == "easy":
            events = [*(Event(name=instrument, pitches=(p,)) for p in pitches), *events]
        yield _draft(
            "What kind of chord is played?", choices, answer, events, instrument, root % 12, answer
        )


def _melody(rng: np.random.Generator, level: str) -> Iterator[Draft]:
    """Three notes by steps of four or five semitones, to five by steps of one or two."""
    answer = str(rng.choice(DIRECTIONS))
    size, least = {"easy": (3, 4), "medium": (4, 2), "hard": (5, 1)}[level]
    while True:
        instrument, root = str(rng.choice(INSTRUMENTS)), _root(rng)
        turn = int(rng.integers(1, size - 1)) if "middle" in answer else size - 1
        steps = rng.integers(least, least + 2, size=size - 1)
        steps[turn:] *= -1
        sign = 1 if answer in (DIRECTIONS[0], DIRECTIONS[2]) else -1
        pitches = root + sign * np.concatenate([[0], np.cumsum(steps)])
        events = [Event(name=instrument, pitches=(int(pitch),)) for pitch in pitches]
        yield _draft(
            "How does the melody move?", DIRECTIONS, answer, events, instrument, root % 12, answer
        )


def _rhythm(rng: np.random.Generator, level: str) -> Iterator[Draft]:
    """Notes of one pitch, long and short; a long one is twice as long."""
    choices = tuple(pick(rng, RHYTHMS[level], 4))
    answer = str(rng.choice(choices))
    text = "Which rhythm of long (L) and short (S) notes is played?"
    while True:
        instrument, root = str(rng.choice(INSTRUMENTS)), _root(rng)
        beats = [2 if length == "L" else 1 for length in answer]
        events = [Event(name=instrument, pitches=(root,), beats=b) for b in beats]
        yield _draft(text, choices, answer, events, instrument, root % 12, answer)


def _timbre(rng: np.random.Generator, level: str) -> Iterator[Draft]:
    """One instrument, the first or last of two, or that of the highest or lowest of three notes."""
    choices = tuple(pick(rng, INSTRUMENTS, 4))
    answer = str(rng.choice(choices))
    first = bool(rng.integers(2))
    text = {
        "easy": "Which instrument is playing?",
        "medium": f"Which instrument plays {'first' if first else 'last'}?",
        "hard": f"Which instrument plays the {'highest' if first else 'lowest'} note?",
    }[level]
    others = {"easy": 0, "medium": 1, "hard": 2}[level]
    while True:
        root = _root(rng)
        rest = pick(rng, tuple(name for name in choices if name != answer), others)
        names = [answer, *rest]
        pitches = [root] * len(names)
        if level == "medium":
            names = names if first else names[::-1]
        elif level == "hard":
            pitches = [root, *(root + (-1 if first else 1) * p for p in _two_steps(rng))]
            order = rng.permutation(3)
            names, pitches = [names[i] for i in order], [pitches[i] for i in order]
        events = [
            Event(name=name, pitches=(pitch,), beats=1.5)
            for name, pitch in zip(names, pitches, strict=True)
        ]
        yield _draft(text, choices, answer, events, *sorted(names), root % 12)


def _two_steps(rng: np.random.Generator) -> tuple[int, int]:
    """Two different distances of 4 to 9 semitones."""
    near, far = sorted(rng.choice(np.arange(4, 10), size=2, replace=False))
    return int(near), int(far)


SUB_CATEGORIES = {
    "interval": SubCategory(task="music", category="reasoning", draw=_interval),
    "chord": SubCategory(task="music", category="recognition", draw=_chord),
    "melody": SubCategory(task="music", category="reasoning", draw=_melody),
    "rhythm": SubCategory(task="music", category="recognition", draw=_rhythm),
    "instrument": SubCategory(task="music", category="recognition", draw=_timbre),
}

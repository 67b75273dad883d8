"""Questions on sounds: their order, overlap, number, loudness, and which are there."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from adrpo.embedded.sounds.meaning import Clip, Draft, Event, SubCategory, joined, pick
from adrpo.embedded.sounds.synthesis import BANDS, KINDS

SUSTAINED = tuple(kind for kind in KINDS if kind != "click")
NUMBERS = ("one", "two", "three", "four", "five")
PLACES = ("the first", "the second", "the third", "the fourth")


def _apart(first: str, second: str) -> bool:
    """True where two kinds lie in bands without a common part, so that neither hides the other."""
    (low, high), (other_low, other_high) = BANDS[first], BANDS[second]
    return high < other_low or other_high < low


APART = tuple(pair for pair in combinations(BANDS, 2) if _apart(*pair))
"""Pairs of kinds that may be heard at once."""


def _draft(text: str, choices: tuple[str, ...], answer: str, *events: Event) -> Draft:
    combination = joined("sound", *sorted({event.name for event in events}))
    clip = Clip(task="sound", events=events)
    return Draft(text=text, choices=choices, answer=answer, clip=clip, combination=combination)


def _shuffled(rng: np.random.Generator, names: list[str]) -> list[str]:
    return [names[place] for place in rng.permutation(len(names))]


def _presence(rng: np.random.Generator, level: str) -> Iterator[Draft]:
    """One, two or three sounds, of which the choices have one; the others are of no choice."""
    choices = tuple(pick(rng, KINDS, 4))
    answer = str(rng.choice(choices))
    rest = tuple(kind for kind in KINDS if kind not in choices)
    others = {"easy": 1, "medium": 2, "hard": 3}[level]
    while True:
        heard = _shuffled(rng, [answer, *pick(rng, rest, others)])
        yield _draft(
            "Which of these sounds is heard?", choices, answer, *(Event(name=n) for n in heard)
        )


def _order(rng: np.random.Generator, level: str) -> Iterator[Draft]:
    """Two sounds (easy) or three; the hard question is of the neighbor of one."""
    named, *four = pick(rng, KINDS, 5)
    choices, answer = tuple(four), str(rng.choice(four))
    first, size = bool(rng.integers(2)), 2 if level == "easy" else 3
    text = f"Which sound comes {'first' if first else 'last'}?"
    if level == "hard":
        text = f"Which sound comes right {'before' if first else 'after'} the {named}?"
    while True:
        others = pick(rng, tuple(kind for kind in four if kind != answer), size - 1)
        names = [answer, *others] if first else [*others, answer]
        if level == "hard":
            pair = [answer, named] if first else [named, answer]
            names = [*pair, others[0]] if rng.integers(2) else [others[0], *pair]
        yield _draft(text, choices, answer, *(Event(name=name) for name in names))


def _overlap(rng: np.random.Generator, level: str) -> Iterator[Draft]:
    """Two sounds whose times are asked for; on the medium level a third stands before or after
    them. On the hard level, the sound that is heard together with a named one of two others."""
    if level == "hard":
        yield from _company(rng)
    one, other = _shuffled(rng, list(APART[rng.integers(len(APART))]))
    relations = (
        f"the {one} comes first",
        f"the {other} comes first",
        "they begin and end together",
        f"the {other} comes in the middle of the {one}",
    )
    answer = int(rng.integers(4))
    pair = (
        (Event(name=one), Event(name=other)),
        (Event(name=other), Event(name=one)),
        (Event(name=one, beats=2), Event(name=other, beats=2, timing="with")),
        (Event(name=one, beats=3), Event(name=other, timing="inside")),
    )[answer]
    text = f"How do the {one} and the {other} lie in time?"
    rest = tuple(k for k in BANDS if k not in (one, other) and _apart(k, one) and _apart(k, other))
    while True:
        events = pair
        if level == "medium":
            third = Event(name=str(rng.choice(rest)))
            events = (third, *pair) if rng.integers(2) else (*pair, third)
        yield _draft(text, relations, relations[answer], *events)


def _company(rng: np.random.Generator) -> Iterator[Draft]:
    choices: tuple[str, ...] = ()
    named = answer = ""
    while len(choices) < 4:
        named = str(rng.choice(list(BANDS)))
        choices = tuple(pick(rng, tuple(k for k in BANDS if k != named and _apart(k, named)), 4))
    answer = str(rng.choice(choices))
    while True:
        other = str(rng.choice([kind for kind in choices if kind != answer]))
        pair = _shuffled(rng, [named, answer])
        events = [Event(name=pair[0], beats=2), Event(name=pair[1], beats=2, timing="with")]
        lone = Event(name=other, beats=2)
        yield _draft(
            f"Which sound is heard at the same time as the {named}?",
            choices,
            answer,
            *([*events, lone] if rng.integers(2) else [lone, *events]),
        )


def _count(rng: np.random.Generator, level: str) -> Iterator[Draft]:
    """One kind several times, in one row (easy) or among one or two others."""
    kind = str(rng.choice(KINDS))
    least = {"easy": 1, "medium": 1, "hard": 2}[level]
    choices = NUMBERS[least - 1 : least + 3]
    number = int(rng.integers(least, least + 4))
    rest = tuple(name for name in KINDS if name != kind)
    while True:
        row = [kind] * number
        others = pick(rng, rest, 1 if level == "easy" else 2)
        names = [*row, *others] if rng.integers(2) else [*others, *row]
        if level != "easy":
            names = _shuffled(rng, [*row, *others])
        yield _draft(
            f"How many times is the {kind} heard?",
            choices,
            NUMBERS[number - 1],
            *(Event(name=name) for name in names),
        )


def _loudness(rng: np.random.Generator, level: str) -> Iterator[Draft]:
    """Two sounds (easy) or three, or the place of the loudest of four (hard)."""
    softest = bool(rng.integers(2))
    difference = {"easy": 12, "medium": 9, "hard": 6}[level]
    if level == "hard":
        answer = int(rng.integers(4))
        choices = PLACES
        text = f"Which of the four sounds is the {'softest' if softest else 'loudest'}?"
    else:
        choices, answer = tuple(pick(rng, SUSTAINED, 4)), 0
        word = ("softer", "louder") if level == "easy" else ("the softest", "the loudest")
        text = f"Which sound is {word[0 if softest else 1]}?"
    while True:
        if level == "hard":
            names = pick(rng, SUSTAINED, 4)
            asked = names[answer]
        else:
            asked = choices[answer]
            names = _shuffled(rng, [asked, *pick(rng, choices[1:], 1 if level == "easy" else 2)])
        levels = {n: 0.0 if n == asked else -float(difference + rng.integers(3)) for n in names}
        if softest:
            low = min(levels.values())
            levels = {n: low if n == asked else float(rng.integers(-1, 1)) for n in names}
        events = (Event(name=n, decibels=levels[n]) for n in names)
        yield _draft(text, choices, choices[answer], *events)


SUB_CATEGORIES = {
    "sound presence": SubCategory(task="sound", category="recognition", draw=_presence),
    "sound order": SubCategory(task="sound", category="reasoning", draw=_order),
    "sound overlap": SubCategory(task="sound", category="reasoning", draw=_overlap),
    "sound count": SubCategory(task="sound", category="reasoning", draw=_count),
    "loudness": SubCategory(task="sound", category="reasoning", draw=_loudness),
}

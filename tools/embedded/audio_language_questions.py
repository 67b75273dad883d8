"""More questions on a clip of the training split, in the world's own words.

A clip is dear to encode and to read; what else it answers costs only the text.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from adrpo.embedded.sounds.events import NUMBERS
from adrpo.embedded.sounds.meaning import Question, joined, pick
from adrpo.embedded.sounds.sets import split_of
from adrpo.embedded.sounds.speech import NUMBERS as FOUR
from adrpo.embedded.sounds.speech import TIMES
from adrpo.embedded.sounds.synthesis import INSTRUMENTS, KINDS
from adrpo.embedded.sounds.words import WORDS

Asked = tuple[str, tuple[str, ...], str]
"""Text, choices and answer."""


def more_questions(question: Question, rng: np.random.Generator, count: int) -> list[Question]:
    """Up to ``count`` other questions on the clip, of different texts, none of another split."""
    names = [event.name for event in question.clip.events]
    task = question.task
    if task == "music":
        root = question.combination.split("|")[2]
        combination = joined("music", *sorted(set(names)), root)
        asked = [*_of_instruments(names, rng)]
    else:
        combination = joined(task, *sorted(set(names)))
        if task == "speech" and len(set(names)) == 1:
            combination = joined(combination, question.clip.events[0].voice)
        simple = all(event.timing == "after" for event in question.clip.events)
        asked = [*(_of_words if task == "speech" else _of_sounds)(names, simple, rng)]
    found = [
        replace(
            question,
            text=text,
            choices=tuple(pick(rng, choices, len(choices))),
            answer=answer,
            combination=combination,
        )
        for text, choices, answer in asked
        if text != question.text
    ]
    found = [other for other in found if split_of(other) == "train"]
    return [found[place] for place in rng.permutation(len(found))[:count]]


def _four(
    rng: np.random.Generator, answer: str, others: list[str], names: tuple[str, ...]
) -> tuple[str, ...]:
    """The answer, some of ``others`` and as many of ``names`` as make four."""
    wrong = list(dict.fromkeys(name for name in others if name != answer))
    wrong = pick(rng, tuple(wrong), min(3, len(wrong)))
    rest = tuple(name for name in names if name not in (answer, *wrong, *others))
    return (answer, *wrong, *pick(rng, rest, 3 - len(wrong)))


def _of_sounds(names: list[str], simple: bool, rng: np.random.Generator) -> Iterator[Asked]:
    answer = str(rng.choice(names))
    unheard = tuple(kind for kind in KINDS if kind not in names)
    if len(unheard) >= 3:
        choices = (answer, *pick(rng, unheard, 3))
        yield "Which of these sounds is heard?", choices, answer
    if simple:
        kind = str(rng.choice(names))
        number = names.count(kind)
        least = 2 if number == 5 or (number > 1 and rng.integers(2)) else 1
        choices = NUMBERS[least - 1 : least + 3]
        yield f"How many times is the {kind} heard?", choices, NUMBERS[number - 1]
        yield from _order(names, KINDS, rng, "Which sound comes", "the {}")


def _of_words(names: list[str], simple: bool, rng: np.random.Generator) -> Iterator[Asked]:
    answer, unsaid = str(rng.choice(names)), tuple(w for w in WORDS if w not in names)
    text = "Which word is said?" if len(names) == 1 else "Which of these words is said?"
    yield text, (answer, *pick(rng, unsaid, 3)), answer
    if len(set(names)) >= 3:
        missing = str(rng.choice(unsaid))
        said = pick(rng, tuple(dict.fromkeys(names)), 3)
        yield "Which of these words is not said?", (missing, *said), missing
    yield from _order(names, WORDS, rng, "Which word is said", "the word {}")
    named = str(rng.choice(names if rng.integers(4) else unsaid))
    if names.count(named) <= 3:
        yield f"How many times is the word {named} said?", TIMES, TIMES[names.count(named)]
    yield "How many words are said?", FOUR, FOUR[len(names) - 1]
    if len(names) > 2:
        yield "How many different words are said?", FOUR, FOUR[len(set(names)) - 1]


def _order(
    names: list[str], all_names: tuple[str, ...], rng: np.random.Generator, start: str, shown: str
) -> Iterator[Asked]:
    if len(names) < 2 or len(set(names)) < len(names):
        return
    for end, place in (("first", 0), ("last", -1)):
        answer = names[place]
        yield f"{start} {end}?", _four(rng, answer, names, all_names), answer
    if len(names) > 2:
        first = bool(rng.integers(2))
        place = int(rng.integers(len(names) - 1)) + (not first)
        answer = names[place]
        named = names[place + 1 if first else place - 1]
        others = [name for name in names if name != named]
        rest = tuple(name for name in all_names if name != named)
        text = f"{start} right {'before' if first else 'after'} {shown.format(named)}?"
        yield text, _four(rng, answer, others, rest), answer


def _of_instruments(names: list[str], rng: np.random.Generator) -> Iterator[Asked]:
    if len(set(names)) == 1:
        choices = _four(rng, names[0], [], INSTRUMENTS)
        yield "Which instrument is playing?", choices, names[0]
    elif len(set(names)) == len(names) == 2:
        for end, place in (("first", 0), ("last", -1)):
            choices = _four(rng, names[place], names, INSTRUMENTS)
            yield f"Which instrument plays {end}?", choices, names[place]

"""Questions on speech: which word is said when, by the same voice or another, and how often."""

from collections.abc import Iterator

import numpy as np

from adrpo.embedded.sounds.meaning import Clip, Draft, Event, SubCategory, joined, pick
from adrpo.embedded.sounds.words import VOICES, WORDS

TIMES = ("never", "once", "twice", "three times")
NUMBERS = ("one", "two", "three", "four")


def _draft(
    text: str,
    choices: tuple[str, ...],
    answer: str,
    said: list[tuple[str, str]],
    *composed: object,
) -> Draft:
    """``said`` lists the words with their voices."""
    events = tuple(Event(name=word, voice=voice) for word, voice in said)
    clip = Clip(task="speech", events=events)
    combination = joined("speech", *composed)
    return Draft(text=text, choices=choices, answer=answer, clip=clip, combination=combination)


def _voiced(rng: np.random.Generator, words: list[str]) -> list[tuple[str, str]]:
    """Each word by a voice of its own draw."""
    return [(word, str(rng.choice(VOICES))) for word in words]


def _presence(rng: np.random.Generator, level: str) -> Iterator[Draft]:
    """One word; one of three that the choices have; or the one of them that is not said."""
    choices = tuple(pick(rng, WORDS, 4))
    answer = str(rng.choice(choices))
    rest = tuple(word for word in WORDS if word not in choices)
    text = "Which word is said?"
    if level != "easy":
        text = f"Which of these words is {'said' if level == 'medium' else 'not said'}?"
    while True:
        words = [answer, *pick(rng, rest, 0 if level == "easy" else 2)]
        if level == "hard":
            words = [word for word in choices if word != answer]
        said = _voiced(rng, pick(rng, tuple(words), len(words)))
        voice = (said[0][1],) if level == "easy" else ()
        yield _draft(text, choices, answer, said, *sorted(words), *voice)


def _order(rng: np.random.Generator, level: str) -> Iterator[Draft]:
    """The first or last of two (easy) or three words, or the neighbor of one of four."""
    named, *four = pick(rng, WORDS, 5)
    choices, answer = tuple(four), str(rng.choice(four))
    first = bool(rng.integers(2))
    text = f"Which word is said {'first' if first else 'last'}?"
    if level == "hard":
        text = f"Which word is said right {'before' if first else 'after'} the word {named}?"
    others = tuple(word for word in four if word != answer)
    while True:
        if level == "hard":
            before, after = pick(rng, others, 2)
            pair = [answer, named] if first else [named, answer]
            words = ([*pair, before, after], [before, *pair, after], [before, after, *pair])[
                rng.integers(3)
            ]
        else:
            rest = pick(rng, others, 1 if level == "easy" else 2)
            words = [answer, *rest] if first else [*rest, answer]
        yield _draft(text, choices, answer, _voiced(rng, words), *sorted(words))


# No two choices of a question are of the same words in another order: MMAU's own scorer compares
# sets of words.
SAME = (
    "same voice, repeated word",
    "same voice, different word",
    "new voice, repeated word",
    "new voice, different word",
)
GROUPS = {
    "one voice says all three": (0, 0, 0),
    "one voice says the first and the second": (0, 0, 1),
    "one voice says the second and the third": (1, 0, 0),
    "one voice says the first and the third": (0, 1, 0),
}


def _voice(rng: np.random.Generator, level: str) -> Iterator[Draft]:
    """The second of two words against the first, three words by two voices, or how many voices say
    four words."""
    answer = int(rng.integers(4))
    while True:
        if level == "easy":
            voices = pick(rng, VOICES, 2) if answer >= 2 else pick(rng, VOICES, 1) * 2
            words = pick(rng, WORDS, 2) if answer % 2 else pick(rng, WORDS, 1) * 2
            text, choices = "How does the second word compare with the first?", SAME
        elif level == "medium":
            pair = pick(rng, VOICES, 2)
            voices = [pair[place] for place in tuple(GROUPS.values())[answer]]
            words = pick(rng, WORDS, 3)
            text, choices = "Which of the three words does one voice say?", tuple(GROUPS)
        else:
            speakers = tuple(pick(rng, VOICES, answer + 1))
            more = [str(rng.choice(speakers)) for _ in range(3 - answer)]
            voices = pick(rng, (*speakers, *more), 4)
            words = pick(rng, WORDS, 4)
            text, choices = "How many voices say the four words?", NUMBERS
        composed = (*sorted(set(voices)), *sorted(set(words)))
        said = list(zip(words, voices, strict=True))
        yield _draft(text, choices, choices[answer], said, *composed)


def _count(rng: np.random.Generator, level: str) -> Iterator[Draft]:
    """The number of words, of times that a named one of four is said, or of different ones."""
    named, answer = str(rng.choice(WORDS)), int(rng.integers(4))
    rest = tuple(word for word in WORDS if word != named)
    while True:
        if level == "easy":
            words = pick(rng, WORDS, answer + 1)
            text, choices = "How many words are said?", NUMBERS
        elif level == "medium":
            words = [named] * answer + pick(rng, rest, 4 - answer)
            text, choices = f"How many times is the word {named} said?", TIMES
        else:
            different = tuple(pick(rng, WORDS, answer + 1))
            words = [*different, *(str(rng.choice(different)) for _ in range(3 - answer))]
            text, choices = "How many different words are said?", NUMBERS
        words = [words[place] for place in rng.permutation(len(words))]
        voice = str(rng.choice(VOICES))
        said = [(word, voice) for word in words] if level == "easy" else _voiced(rng, words)
        # Few are single words: their voice tells them apart.
        alone = (voice,) if level == "easy" else ()
        yield _draft(text, choices, choices[answer], said, *sorted(set(words)), *alone)


SUB_CATEGORIES = {
    "word presence": SubCategory(task="speech", category="recognition", draw=_presence),
    "word order": SubCategory(task="speech", category="reasoning", draw=_order),
    "voice": SubCategory(task="speech", category="recognition", draw=_voice),
    "word count": SubCategory(task="speech", category="reasoning", draw=_count),
}

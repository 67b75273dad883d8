"""The questions world: short questions with exact answers, and which are held out.

A prompt says everything: :func:`parse_question` reads category, level and answer from it, so that
``parse_question(q.prompt) == q`` for every question, and a verifier needs nothing beside prompt
and completion. :func:`sample_question` draws one.

===========  =============================  =====================  ======
category     levels 1, 2, 3                 example                answer
===========  =============================  =====================  ======
addition     2 + 1, 2 + 2, 3 + 2 digits     ``37+45=``             82
subtraction  2 - 1, 2 - 2, 3 - 2 digits     ``82-45=``             37
two-step     none, one, two products        ``3*4+5=``             17
sorting      3, 4, 5 different letters      ``sort dbac=``         abcd
reversal     4, 5, 6 letters                ``reverse lamp=``      pmal
counting     5, 6, 7 letters                ``count b in abcbb=``  3
largest      2, 3, 4 numbers of two digits  ``largest 17 52 38=``  52
===========  =============================  =====================  ======

No answer is negative.
"""

import hashlib
import math
import re
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

CATEGORIES = ("addition", "subtraction", "two-step", "sorting", "reversal", "counting", "largest")
LEVELS = (1, 2, 3)

UNKNOWN = "?"
"""The answer that says "I don't know"; right for no question."""

LETTERS = "abcdefghijklmnopqrstuvwxyz"
ALPHABET = "0123456789" + LETTERS + " +-*=" + UNKNOWN
"""Every character of a prompt or an answer."""

HELD_OUT_FRACTION = 0.2

_SIZES: dict[str, tuple[Any, Any, Any]] = {
    "addition": ((2, 1), (2, 2), (3, 2)),
    "subtraction": ((2, 1), (2, 2), (3, 2)),
    "two-step": (0, 1, 2),
    "sorting": (3, 4, 5),
    "reversal": (4, 5, 6),
    "counting": (5, 6, 7),
    "largest": (2, 3, 4),
}
"""Category -> what grows with the level: digits, products, letters, numbers."""

_FORMS = {
    "addition": r"[1-9]\d*\+[1-9]\d*=",
    "subtraction": r"[1-9]\d*-[1-9]\d*=",
    "two-step": r"[1-9]\+[1-9]-[1-9]=|[1-9]\*[1-9][+-][1-9]=|[1-9]\*[1-9]\+[1-9]\*[1-9]=",
    "sorting": "sort [a-z]+=",
    "reversal": "reverse [a-z]+=",
    "counting": "count [a-z] in [a-z]+=",
    "largest": r"largest [1-9]\d( [1-9]\d)+=",
}


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question. ``combination`` is what is asked about, whatever the order: the unit of the
    split into training and held-out questions."""

    prompt: str
    answer: str
    category: str
    level: int
    combination: str


def parse_question(prompt: str) -> Question:
    """The question that ``prompt`` asks.

    Raises ValueError where ``prompt`` is not one of the questions world.
    """
    fitting = (name for name, form in _FORMS.items() if re.fullmatch(form, prompt, re.ASCII))
    category = next(fitting, "")
    operands = re.findall(r"\d+" if re.search(r"\d", prompt) else "[a-z]+", prompt)
    try:
        size, answer, parts = _read(category, prompt, operands)
        level = 1 + _SIZES[category].index(size)
        if answer.startswith("-"):
            raise ValueError
    except (ValueError, KeyError):
        raise ValueError(
            f"expected a question of the questions world such as '37+45=' or 'sort dbac='; "
            f"received {prompt!r}"
        ) from None
    operators = re.sub("[^-+*]", "", prompt)
    combination = " ".join((category + operators, *sorted(parts)))
    return Question(
        prompt=prompt, answer=answer, category=category, level=level, combination=combination
    )


def _read(category: str, prompt: str, operands: list[str]) -> tuple[Any, str, list[str]]:
    """Size, answer, and the parts whose order does not matter to the split."""
    match category:
        case "addition" | "subtraction":
            digits = sorted((len(number) for number in operands), reverse=True)
            return tuple(digits), str(_value(prompt)), operands
        case "two-step":
            return prompt.count("*"), str(_value(prompt)), operands
        case "largest":
            return len(operands), max(operands), operands
        case "sorting":
            letters = sorted(operands[1])
            if len(set(letters)) < len(letters):
                raise ValueError
            return len(letters), "".join(letters), letters
        case "reversal":
            word, backwards = operands[1], operands[1][::-1]
            return len(word), backwards, [min(word, backwards)]
        case "counting":
            _, letter, _, word = operands
            return len(word), str(word.count(letter)), sorted(word)
    raise KeyError(category)


def _value(expression: str) -> int:
    """A sum and difference of products, from left to right."""
    terms = re.findall(r"([-+]?)([\d*]+)", expression)
    products = [math.prod(map(int, factors.split("*"))) for _, factors in terms]
    return sum(
        -value if sign == "-" else value for (sign, _), value in zip(terms, products, strict=True)
    )


def sample_question(
    rng: np.random.Generator, category: str | None = None, level: int | None = None
) -> Question:
    """Draw a question; category and level are uniform unless given."""
    category = category or str(rng.choice(CATEGORIES))
    level = int(rng.choice(LEVELS)) if level is None else level
    if category not in CATEGORIES or level not in LEVELS:
        raise ValueError(
            f"category must be one of {', '.join(CATEGORIES)} and level one of 1, 2, 3; "
            f"received {category!r}, {level!r}"
        )
    return parse_question(_draw(rng, category, _SIZES[category][level - 1]))


def _draw(rng: np.random.Generator, category: str, size: Any) -> str:
    match category:
        case "addition":
            a, b = (_number(rng, digits) for digits in rng.permutation(size))
            return f"{a}+{b}="
        case "subtraction":
            a, b = (_number(rng, digits) for digits in size)
            return f"{max(a, b)}-{min(a, b)}="
        case "two-step":
            return _two_step(rng, products=size)
        case "sorting":
            return f"sort {_word(rng, LETTERS, size, replace=False)}="
        case "reversal":
            return f"reverse {_word(rng, LETTERS, size)}="
        case "counting":
            # Of three letters, so that there is something to count.
            letters = _word(rng, LETTERS, 3, replace=False)
            return f"count {letters[0]} in {_word(rng, letters, size)}="
        case _:
            numbers = rng.choice(np.arange(10, 100), size=size, replace=False)
            return f"largest {' '.join(map(str, numbers))}="


def _two_step(rng: np.random.Generator, products: int) -> str:
    while True:
        a, b, c, d = rng.integers(1, 10, size=4)
        sign = rng.choice(["+", "-"])
        prompt = (f"{a}+{b}-{c}=", f"{a}*{b}{sign}{c}=", f"{a}*{b}+{c}*{d}=")[products]
        if _value(prompt) >= 0:
            return prompt


def _number(rng: np.random.Generator, digits: int) -> int:
    return int(rng.integers(10 ** (digits - 1), 10**digits))


def _word(rng: np.random.Generator, letters: str, length: int, *, replace: bool = True) -> str:
    return "".join(rng.choice(list(letters), size=length, replace=replace))


def is_held_out(question: Question) -> bool:
    """True where the question's combination belongs to the held-out split (a fifth of them all).

    The split is by combination: the numbers of a held-out sum or comparison, the letters of a
    held-out word to sort or to count in, are never seen together in training in any order, and
    of a held-out reversal neither the word nor its reverse.
    """
    digest = hashlib.sha256(question.combination.encode()).digest()
    return digest[0] < 256 * HELD_OUT_FRACTION


def sample_split(
    rng: np.random.Generator,
    *,
    held_out: bool,
    category: str | None = None,
    level: int | None = None,
) -> Question:
    """Draw a question of one split, by rejection."""
    while True:
        question = sample_question(rng, category, level)
        if is_held_out(question) == held_out:
            return question


def question_set(size: int, *, held_out: bool, seed: int) -> list[Question]:
    """``size`` different questions of one split, categories and levels in turn.

    A category and level with few combinations runs dry; the others then make up the number.

    Raises ValueError where the split holds fewer questions.
    """
    rng = np.random.default_rng(seed)
    questions: dict[str, Question] = {}
    cells = [(category, level) for level, category in product(LEVELS, CATEGORIES)]
    while len(questions) < size and cells:
        for category, level in list(cells):
            new = _unseen_question(rng, held_out, category, level, questions)
            if new is None:
                cells.remove((category, level))
            elif len(questions) < size:
                questions[new.prompt] = new
    if len(questions) < size:
        raise ValueError(f"expected at most {len(questions)} questions; received size {size}")
    return list(questions.values())


def _unseen_question(
    rng: np.random.Generator, held_out: bool, category: str, level: int, seen: dict[str, Question]
) -> Question | None:
    """A question that is not in ``seen``; None where 300 draws found none."""
    for _ in range(300):
        question = sample_split(rng, held_out=held_out, category=category, level=level)
        if question.prompt not in seen:
            return question
    return None

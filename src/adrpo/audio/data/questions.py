"""Choices and answers of questions: checked, without labels, and in a balanced order."""

import random
import re
from collections import defaultdict
from collections.abc import Sequence

from adrpo.audio.benchmarks.questions import same_text
from adrpo.audio.data.sifting import sift, tell
from adrpo.data.base import Row
from adrpo.errors import AdrpoError
from adrpo.rewards.completions import normal_form
from adrpo.rewards.multiple_choice import LETTERS, choice_texts, right_choice

Located = tuple[str, Row]
"""Place of a row, for messages, and the row."""

_OF_OTHERS = re.compile(
    r"\bof (?:the|these) (?:above|choices|options)\b|\b[A-H],? (?:and|or|&) [A-H]\b"
)
"""Words of a choice that speaks of others by their place: "none of the above", "both A and B"."""

_REMEDY = "correct the row, or set prompts.faulty: leave_out"


def checked(rows: Sequence[Located], *, faulty: str, merge: bool = False) -> list[Located]:
    """The questions with "choices" as texts without labels, and "answer" as one of these texts.

    Choices repeat where the rewards would take one for the other
    (:func:`adrpo.rewards.completions.normal_form`).

    Args:
        rows: with "question", "choices" and "answer", which is a choice's text, its letter or its
            number from 0.
        faulty: "refuse" or "leave_out" (:func:`adrpo.audio.data.sifting.sift`).
        merge: whether choices of one text are taken as one, as in published benchmarks.

    Raises:
        AdrpoError: a question without words, choices that are no list of 2 to 26 texts or repeat,
            or an answer that is none of them.
    """
    found = sift(rows, lambda row: _checked(row, merge), faulty=faulty, of="questions")
    return [(where, {**row, **new}) for where, row, new in found]


def _checked(row: Row, merge: bool) -> Row:
    if not isinstance(row["question"], str) or not row["question"].strip():
        raise AdrpoError(f"expected a question in words, received {row['question']!r:.60}")
    try:
        choices = [choice.strip() for choice in choice_texts(row["choices"]) or ()]
    except AdrpoError:
        choices = []
    if merge:
        first: dict[str, str] = {}
        for choice in choices:
            first.setdefault(same_text(choice), choice)
        choices = list(first.values())
    if len(choices) < 2 or "" in choices:
        raise AdrpoError(
            f"expected as choices 2 to {len(LETTERS)} texts, received {row['choices']!r:.80}"
        )
    forms = [normal_form(choice) or choice for choice in choices]
    repeated = [
        choice for choice, form in zip(choices, forms, strict=True) if forms.count(form) > 1
    ]
    if repeated and not merge:
        received = " and ".join(map(repr, repeated))
        raise AdrpoError(f"expected choices that differ, received {received:.120}; {_REMEDY}")
    try:
        return {"choices": choices, "answer": choices[right_choice(row["answer"], choices)]}
    except AdrpoError:
        raise AdrpoError(
            f"expected as answer one of {choices!r:.120}, received {row['answer']!r:.60}; {_REMEDY}"
        ) from None


def in_balanced_order(rows: Sequence[Located], *, seed: int) -> list[Located]:
    """The questions with their choices in a new order, drawn from ``seed``.

    Among the questions of one number of choices each letter is the right one equally often, to
    within one, and so it is among the first ones of them. Choices that speak of each other by
    their place keep theirs, with a warning.

    Args:
        rows: of :func:`checked`.
        seed: of the order.
    """
    rng = random.Random(seed)
    places: defaultdict[int, list[int]] = defaultdict(list)
    ordered: list[Located] = []
    kept: list[str] = []
    for where, row in rows:
        choices, answer = row["choices"], row["answer"]
        if any(_OF_OTHERS.search(choice) for choice in choices):
            ordered.append((where, row))
            kept.append(where)
            continue
        count = len(choices)
        places[count] = places[count] or rng.sample(range(count), count)
        others = [choice for choice in choices if choice != answer]
        rng.shuffle(others)
        place = places[count].pop()
        ordered.append((where, {**row, "choices": [*others[:place], answer, *others[place:]]}))
    if kept:
        tell(
            f"{len(kept)} of {len(rows)} questions keep the order of their choices, which speak of "
            "each other by their place",
            kept,
        )
    return ordered

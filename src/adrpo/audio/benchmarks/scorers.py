r"""Three scorers of one answer: the authors', theirs with nothing left out, and the chosen option.

The authors' rule (MMAU; MMAR has it, too) compares sets of words. W(text) is the set of the
matches of ``\b\w+\b`` in the lower-case text; with P = W(prediction) and A = W(answer) a
prediction is right where

    P is not empty,   A is a subset of P,   P and B have no word in common,
    B = the union of W(choice) - A over the choices.

A choice that has the answer's words in another order adds nothing to B, and is right as well. A
letter before the answer is wrong where another choice has that word ("A. rain" beside "a dog").
"""

import re
from collections.abc import Sequence

from adrpo.audio.benchmarks.questions import Question, same_text
from adrpo.rewards.multiple_choice import MultipleChoice, choice_texts

OFFICIAL, NOTHING_LEFT_OUT, STRICT = "official", "official_missing_wrong", "strict"

SCORERS = {
    OFFICIAL: "official",
    NOTHING_LEFT_OUT: "official, missing = wrong",
    STRICT: "strict",
}
"""Key of a scorer in files -> its name in tables."""

_READER = MultipleChoice(whole=True)


def words(text: str) -> set[str]:
    """The words of a text, in lower case, as the authors' scorer finds them."""
    return set(re.findall(r"\b\w+\b", text.lower()))


def agrees(prediction: str, answer: str, choices: Sequence[str]) -> bool:
    """True where the authors' rule calls ``prediction`` right."""
    said, right = words(prediction), words(answer)
    others = set[str]().union(*(words(choice) for choice in choices)) - right
    return bool(said) and right <= said and not said & others


def chosen(prediction: str, choices: Sequence[str]) -> str | None:
    """The one choice that a prediction names, by letter or text, or None.

    ``choices`` stand in the order in which the model saw them. What names one is told by
    :class:`~adrpo.rewards.multiple_choice.MultipleChoice` with ``whole``. Choices that repeat a
    text (:func:`~adrpo.audio.benchmarks.questions.same_text`) are one.
    """
    texts = choice_texts(choices) or []
    named = sorted(_READER.named(prediction, texts))
    same = {same_text(texts[number]) for number in named}
    return choices[named[0]] if len(same) == 1 else None


def is_right_choice(choice: str | None, question: Question) -> bool:
    """True where ``choice`` is the answer; where the answer is none of the choices, where the
    authors' rule accepts the choice's text."""
    if choice is None:
        return False
    if question.answer_is_a_choice:
        return same_text(choice) == same_text(question.answer)
    return agrees(choice, question.answer, question.choices)


def verdicts(
    question: Question, prediction: str | None, shown: Sequence[str] | None = None
) -> dict[str, int | None]:
    """Each scorer's verdict on a prediction: 1 right, 0 wrong, None left out of the count.

    A prediction that is missing (None) is left out by ``official`` and wrong for the others. An
    empty one is wrong for all. ``shown`` are the choices in the model's order, where it was
    another than the question's.
    """
    if prediction is None:
        return {OFFICIAL: None, NOTHING_LEFT_OUT: 0, STRICT: 0}
    right = int(agrees(prediction, question.answer, question.choices))
    option = chosen(prediction, shown or question.choices)
    return {
        OFFICIAL: right,
        NOTHING_LEFT_OUT: right,
        STRICT: int(is_right_choice(option, question)),
    }

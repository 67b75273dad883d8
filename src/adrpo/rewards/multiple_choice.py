"""Multiple choice: whether the choice that a completion names is the right one."""

import re
from collections.abc import Sequence
from typing import Any

from adrpo.errors import AdrpoError
from adrpo.rewards.completions import (
    Completion,
    after_thought,
    column,
    completion_text,
    normal_form,
    tagged,
)

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# At the start of a line or sentence only: "I doubt that the answer is B" claims nothing.
_CLAIM = re.compile(
    r"(?:^|[.!?]\s+)[*_#> ]*(?:(?:so|thus|hence|therefore)\b,?\s*)?"
    r"(?:(?:the|my)\s+)?(?:(?:final|correct|right|best)\s+)?answer[*_]*(?:\s+is\b|\s*:)[: ]*(.*)$",
    re.IGNORECASE | re.MULTILINE,
)
_LABEL = re.compile(r"[(\[]?([A-Za-z])(?:[)\].:]+\s*|$)(.*)", re.DOTALL)


class MultipleChoice:
    """Multiple choice: 1 where the completion names the right choice and no other, else 0.

    What it names is the content of its <answer> tag; without a tag, what follows "answer is" or
    "answer:" at the start of a line or sentence, to the end of the line; the last of several
    counts, and thoughts (<think>) do not. It names a choice by its letter ("B", "(b)", "B."), by
    its text in full (:func:`adrpo.rewards.completions.normal_form`), or by both, which then must
    agree; outside a tag a lone letter must be a capital, since "the answer is a" may be cut short.
    Anything else, two choices or a further word among it, scores 0: no text scores 1 by accident.

    None where the data has no answer for the sample.

    Args:
        answer: the column of right answers: the choice's text, its letter, or its number from 0.
        choices: the column of choices, a list of texts a sample; their labels ("A. ", "(B) ")
            are optional. Where the data has no such column, letters alone are compared.
        tag: the tag's name.
        whole: whether a text with neither a tag nor "answer is" names a choice as a whole ("B",
            "a dog"), as models answer that are asked for the choice alone.

    Raises:
        AdrpoError: no column of answers, choices that are no list of 2 to 26 texts, or an answer
            that is none of them.
    """

    reads_whole_turns = True
    """A thought that the chat template opened is part of what is read."""

    def __init__(
        self,
        answer: str = "answer",
        choices: str = "choices",
        tag: str = "answer",
        whole: bool = False,
    ) -> None:
        self.answer, self.choices, self.tag, self.whole = answer, choices, tag, whole

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Completion], **columns: Any
    ) -> list[float | None]:
        """One score a completion."""
        count = len(completions)
        answers = column(columns, self.answer, count, reward="multiple_choice", option="answer")
        lists: Sequence[Any] = [None] * count
        if self.choices in columns:
            lists = column(columns, self.choices, count, reward="multiple_choice", option="choices")
        scores: list[float | None] = []
        for completion, answer, choices in zip(completions, answers, lists, strict=True):
            if answer is None:
                scores.append(None)
                continue
            texts = choice_texts(choices)
            right = right_choice(answer, texts)
            scores.append(float(self.named(completion_text(completion), texts) == {right}))
        return scores

    def named(self, text: str, texts: Sequence[str] | None) -> set[int]:
        """Numbers of the choices that the claim of a completion's ``text`` can mean, as
        :func:`named_choices`; ``texts`` are the choices without labels (:func:`choice_texts`)."""
        claim = tagged(text, self.tag)
        if claim is not None:
            return named_choices(claim, texts)
        if f"<{self.tag}>" in after_thought(text):
            return set()
        claims = _CLAIM.findall(after_thought(text))
        if not claims:
            return named_choices(after_thought(text), texts) if self.whole else set()
        claim = claims[-1].strip()
        lone = claim.strip(" .*_()[]`")
        if len(lone) == 1 and lone.islower():
            return set()
        return named_choices(claim, texts)


def named_choices(claim: str, texts: Sequence[str] | None) -> set[int]:
    """Numbers of the choices that ``claim`` can mean; more than one is an ambiguous claim.

    "A" means the first choice and also every choice whose text is "A".
    """
    claim = re.sub(r"^(?:option|choice)\s+", "", claim.strip(" \t\n*_`"), flags=re.IGNORECASE)
    form = normal_form(claim)
    named = {i for i, text in enumerate(texts or ()) if form and normal_form(text) == form}
    label = _LABEL.fullmatch(claim)
    if label:
        number = LETTERS.index(label[1].upper())
        text = normal_form(label[2])
        if texts is None:
            known, agrees = True, not text
        else:
            known = number < len(texts)
            agrees = known and (not text or text == normal_form(texts[number]))
        if known and agrees:
            named.add(number)
    return named


def choice_texts(choices: Any) -> list[str] | None:
    """The choices without their labels ("A. ", "(B) "); None for None.

    Raises:
        AdrpoError: no list of 2 to 26 texts.
    """
    if choices is None:
        return None
    if (
        not isinstance(choices, list | tuple)
        or not 2 <= len(choices) <= len(LETTERS)
        or not all(isinstance(choice, str) for choice in choices)
    ):
        raise AdrpoError(
            f"multiple_choice: expected the choices as a list of 2 to {len(LETTERS)} texts, "
            f"received {choices!r:.60}; name their column in the option 'choices'"
        )
    labels = [_LABEL.fullmatch(choice.strip()) for choice in choices]
    own = [label and label[2] and label[1].upper() for label in labels]
    if own == list(LETTERS[: len(choices)]):
        return [label[2] for label in labels if label]
    return list(choices)


def right_choice(answer: Any, texts: Sequence[str] | None) -> int:
    """The number of the choice that the data says is right; a text counts before a letter.

    Args:
        answer: a choice's text, its letter, or its number from 0.
        texts: the choices without labels; None where letters alone are known.

    Raises:
        AdrpoError: an answer that is none of them.
    """
    count = len(LETTERS if texts is None else texts)
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < count:
        return answer
    if isinstance(answer, str):
        same = [i for i, text in enumerate(texts or ()) if text.strip() == answer.strip()]
        named = set(same[:1]) or named_choices(answer, texts)
        if len(named) == 1:
            return named.pop()
    among = "a letter" if texts is None else f"one of {list(texts)!r:.120}"
    raise AdrpoError(
        f"multiple_choice: expected as answer {among}, received {answer!r:.60}; correct the data, "
        "or name its column in the option 'answer'"
    )

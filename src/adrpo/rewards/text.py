"""Rewards that check a completion by rules: exact answer, format, length and keywords."""

import re
from collections.abc import Sequence
from typing import Any, Literal

from adrpo.errors import AdrpoError
from adrpo.rewards.completions import Completion, column, completion_text, normal_form, tagged

_NO_TAG = r"(?:(?!</?(?:think|answer)>).)*"

FORMATS = {
    "answer": rf"<answer>{_NO_TAG}</answer>",
    "think_answer": rf"<think>{_NO_TAG}</think>\s*<answer>{_NO_TAG}</answer>",
}
"""Name of a format -> its regular expression; no tag inside another, none twice."""


class ExactAnswer:
    """Exact answer: 1 where the <answer> tag holds the right answer, else 0.

    The two are compared as :func:`adrpo.rewards.completions.normal_form`: case, spaces, quotation
    marks and closing punctuation do not count; everything else does ("Piano 3" is not
    "Guitar 3", and 1.5 is not 15). Without a closed tag the score is 0. None where the data has no
    answer for the sample.

    Args:
        answer: the column of right answers, each a text, a number, or a list of which any is right.
        tag: the tag's name.

    Raises:
        AdrpoError: no column of answers.
    """

    reads_whole_turns = True
    """A thought that the chat template opened is part of what is read."""

    def __init__(self, answer: str = "answer", tag: str = "answer") -> None:
        self.answer, self.tag = answer, tag

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Completion], **columns: Any
    ) -> list[float | None]:
        """One score a completion."""
        answers = column(
            columns, self.answer, len(completions), reward="exact_answer", option="answer"
        )
        scores: list[float | None] = []
        for completion, answer in zip(completions, answers, strict=True):
            right = [answer] if not isinstance(answer, list | tuple) else answer
            forms = {_form(str(one)) for one in right if one is not None} - {""}
            said = tagged(completion_text(completion), self.tag)
            scores.append(float(said is not None and _form(said) in forms) if forms else None)
        return scores


def _form(text: str) -> str:
    """An answer of punctuation alone ("?") is compared as it stands."""
    return normal_form(text) or text.strip()


class Format:
    """Format: 1 where the whole completion, without spaces around it, has the form, else 0.

    Args:
        pattern: a name of FORMATS ("think_answer": <think>...</think><answer>...</answer>,
            each tag once; "answer": the second half alone), or a regular expression of Python's
            ``re``, in which the dot takes line breaks, too.

    Raises:
        AdrpoError: not a regular expression.
    """

    reads_whole_turns = True
    """A thought that the chat template opened is part of what is read."""

    def __init__(self, pattern: str = "think_answer") -> None:
        try:
            self.pattern = re.compile(FORMATS.get(pattern, pattern), re.DOTALL)
        except re.error as error:
            raise AdrpoError(
                f"format: expected {' or '.join(FORMATS)} or a regular expression as pattern, "
                f"received {pattern!r} ({error})"
            ) from None

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Completion], **columns: Any
    ) -> list[float]:
        """One score a completion."""
        texts = (completion_text(completion).strip() for completion in completions)
        return [float(self.pattern.fullmatch(text) is not None) for text in texts]


class Length:
    """Length: 1 at the wanted length, falling linearly to 0 over ``slack``, in [0, 1].

        length = max(0, 1 - d / slack),   d = |n - target|   or   d = max(0, n - limit)

    with n the completion's length; for a slack of 0 it is 1 where d = 0, else 0.

    Args:
        target: the wanted length.
        limit: the greatest length; give one of the two.
        slack: by how much a length may be off before it scores 0; None: as much as target or
            limit, so that an empty completion scores 0 by a target and 1 by a limit.
        unit: "words" (what spaces separate), "characters", or "tokens" (of TRL's column
            ``completion_ids``, the end-of-text token included).

    Raises:
        AdrpoError: not one of target and limit, a negative slack, an unknown unit, or no
            ``completion_ids`` beside the completions.
    """

    def __init__(
        self,
        target: int | None = None,
        limit: int | None = None,
        slack: int | None = None,
        unit: Literal["words", "characters", "tokens"] = "words",
    ) -> None:
        bound = limit if target is None else target
        if bound is None or (target is not None and limit is not None) or bound < 1:
            raise AdrpoError(
                "length: expected either a target or a limit, at least 1, "
                f"received target {target!r} and limit {limit!r}"
            )
        if slack is not None and slack < 0:
            raise AdrpoError(f"length: expected a slack >= 0, received {slack!r}")
        if unit not in ("words", "characters", "tokens"):
            raise AdrpoError(
                f"length: expected the unit words, characters or tokens, received {unit!r}"
            )
        self.target, self.limit, self.unit = target, limit, unit
        self.slack = bound if slack is None else slack

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Completion], **columns: Any
    ) -> list[float]:
        """One score a completion."""
        if self.unit == "tokens":
            if "completion_ids" not in columns:
                raise AdrpoError(
                    "length: expected the completions' token ids as 'completion_ids' for the unit "
                    f"tokens, received the columns {', '.join(sorted(columns)) or 'none'}; pass "
                    "them as TRL does, or set the option 'unit' to words or characters"
                )
            counted = column(
                columns, "completion_ids", len(completions), reward="length", option="unit"
            )
        else:
            texts = [completion_text(completion) for completion in completions]
            counted = [text.split() for text in texts] if self.unit == "words" else texts
        return [self._score(len(one)) for one in counted]

    def _score(self, length: int) -> float:
        off = max(0, length - self.limit) if self.limit else abs(length - (self.target or 0))
        if self.slack == 0:
            return float(off == 0)
        return max(0.0, 1 - off / self.slack)


class Keywords:
    """Keywords: the share of the required ones that occur, and 0 as soon as a forbidden one does.

    In [0, 1]; 1 where nothing is required. A keyword is found as whole words, so that "art" is not
    in "start".

    Args:
        required, forbidden: keywords that hold for every sample. The columns of the same names,
            each a list of keywords a sample, add to them where the data has them.
        case_sensitive: whether "Paris" differs from "paris".

    Raises:
        AdrpoError: neither option nor column has a keyword, or one is empty or no text.
    """

    def __init__(
        self,
        required: Sequence[str] = (),
        forbidden: Sequence[str] = (),
        case_sensitive: bool = False,
    ) -> None:
        self.required, self.forbidden = _keywords(required), _keywords(forbidden)
        self.case_sensitive = case_sensitive

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Completion], **columns: Any
    ) -> list[float]:
        """One score a completion."""
        own = {"required", "forbidden"} & columns.keys()
        if not (own or self.required or self.forbidden):
            raise AdrpoError(
                "keywords: expected keywords in the options 'required' and 'forbidden' or in "
                "columns of these names, received none"
            )
        empty = [()] * len(completions)
        samples = zip(
            completions,
            columns.get("required", empty),
            columns.get("forbidden", empty),
            strict=True,
        )
        return [
            self._score(
                completion_text(completion),
                self.required + _keywords(required),
                self.forbidden + _keywords(forbidden),
            )
            for completion, required, forbidden in samples
        ]

    def _score(self, text: str, required: tuple[str, ...], forbidden: tuple[str, ...]) -> float:
        if any(self._occurs(word, text) for word in forbidden):
            return 0.0
        if not required:
            return 1.0
        return sum(self._occurs(word, text) for word in required) / len(required)

    def _occurs(self, keyword: str, text: str) -> bool:
        flags = re.NOFLAG if self.case_sensitive else re.IGNORECASE
        # Not \b: a keyword may begin or end with another character than a letter, as "C++".
        return re.search(rf"(?<!\w){re.escape(keyword)}(?!\w)", text, flags) is not None


def _keywords(words: Any) -> tuple[str, ...]:
    if isinstance(words, str) or any(not isinstance(w, str) or not w.strip() for w in words or ()):
        raise AdrpoError(
            f"keywords: expected a list of texts that are not empty, received {words!r:.60}"
        )
    return tuple(dict.fromkeys(words or ()))

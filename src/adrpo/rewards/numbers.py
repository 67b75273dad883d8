"""Numeric answers: how numbers are read in a text, and whether one is the right one."""

import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from adrpo.errors import AdrpoError
from adrpo.rewards.completions import Completion, after_thought, column, completion_text, tagged

LONGEST = 64
"""Characters of a number; what is longer is not read: its arithmetic would be the policy's to
choose."""

_PLAIN = r"(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?|\.\d+"
_FRACTION = r"(?:(?P<whole>\d+) )?(?P<over>\d+) ?/ ?(?P<under>\d+)"
# No part of a word (H2O, 2x), of a version (1.2.3), of a date (3/4/2025) or of a quotient.
_NUMBER = re.compile(
    rf"(?<![\w/.])(?<!\d,)(?<!/ )(?:{_FRACTION}|(?P<plain>{_PLAIN}))(?!\w|[.,]\d| ?/ ?\d)"
)
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}")
_SIGN = re.compile(r"(?P<sign>-|\bminus|\bnegative)(?P<gap> *)[$€£]?(?P<end> *)$", re.IGNORECASE)
# What a minus subtracts from: a number, a bracket or a variable.
_OPERAND = re.compile(r"(?:[\d)\]}%]|(?<!\w)[a-z])$", re.IGNORECASE)
# A tag that holds more of a formula than one number.
_FORMULA = re.compile(r"[√^×÷±]|(?<!\w)[a-zA-Z] ?[-−+*]|\\(?!boxed|text|mathrm|left|right)[a-zA-Z]")

REACH = 40
"""Characters before a number that are searched for its sign."""


class NumericAnswer:
    """Numeric answer: 1 where |x - y| <= max(tolerance, relative_tolerance |y|), else 0.

    x is the one number in the completion's <answer> tag, with words or units around it (two
    numbers or a formula there score 0); without a tag, the last number of the completion behind
    its thought (<think>). y is the right answer. Both are exact rationals: with the default
    tolerances 0.50 equals 1/2, and 0.333 does not equal 1/3. :func:`read_numbers` says what a
    number is. None where the data has no answer for the sample.

    Args:
        answer: the column of right answers: numbers, or texts with one number; of a text with
            "####" (GSM8K), what follows it.
        tag: the tag's name.
        tolerance: largest absolute difference.
        relative_tolerance: largest difference as a share of |y|.

    Raises:
        AdrpoError: a negative tolerance, no column of answers, or an answer without one number.
    """

    reads_whole_turns = True
    """A thought that the chat template opened is part of what is read."""

    def __init__(
        self,
        answer: str = "answer",
        tag: str = "answer",
        tolerance: float = 0.0,
        relative_tolerance: float = 0.0,
    ) -> None:
        for name, value in (("tolerance", tolerance), ("relative_tolerance", relative_tolerance)):
            if not 0 <= value < float("inf"):
                raise AdrpoError(f"numeric_answer: expected a {name} >= 0, received {value!r}")
        self.answer, self.tag = answer, tag
        self.tolerance, self.relative_tolerance = tolerance, relative_tolerance

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Completion], **columns: Any
    ) -> list[float | None]:
        """One score a completion."""
        answers = column(
            columns, self.answer, len(completions), reward="numeric_answer", option="answer"
        )
        return [
            None if answer is None else self._score(completion_text(completion), answer)
            for completion, answer in zip(completions, answers, strict=True)
        ]

    def _score(self, text: str, answer: Any) -> float:
        expected, received = _right_number(answer), self._read(text)
        if received is None:
            return 0.0
        # Through text, a tolerance is the decimal that was written, not its binary neighbour.
        allowed = max(
            Fraction(str(self.tolerance)), Fraction(str(self.relative_tolerance)) * abs(expected)
        )
        return float(abs(received - expected) <= allowed)

    def _read(self, text: str) -> Fraction | None:
        content = tagged(text, self.tag)
        if content is None:
            numbers = read_numbers(after_thought(text))
            return numbers[-1] if numbers else None
        numbers = read_numbers(content)
        if len(numbers) != 1 or _FORMULA.search(_LATEX_FRACTION.sub("", content)):
            return None
        return numbers[0]


def read_numbers(text: str) -> list[Fraction]:
    """The numbers in ``text``, exact, in their order.

    Read are digits with a decimal point, thousands separated by commas (1,234,567), powers of ten
    (1e-3), fractions (3/4, 1 3/4, \\frac{3}{4}) and the signs "-", "−", "minus" and "negative"; a
    currency sign may stand between. "7 - 5" and "3-5" hold no negative number, and neither does a
    list that begins its lines with "- ". Units and per cent signs are not read: "50 %" is 50. No
    numbers are a decimal comma, a date, a version, a digit that touches a letter (2x, 5km), and
    what is longer than LONGEST characters.
    """
    text = re.sub("[−‒–]", "-", text)
    text = _LATEX_FRACTION.sub(r" \1/\2", text)
    found: list[Fraction] = []
    for match in _NUMBER.finditer(text):
        value = None if len(match[0]) > LONGEST else _value(match)
        if value is not None:
            found.append(-value if _is_negative(text, match.start()) else value)
    return found


def _value(match: re.Match[str]) -> Fraction | None:
    if match["plain"]:
        return Fraction(Decimal(match["plain"].replace(",", "")))
    if int(match["under"]) == 0:
        return None
    return int(match["whole"] or 0) + Fraction(int(match["over"]), int(match["under"]))


def _is_negative(text: str, start: int) -> bool:
    """True where the number at ``start`` has a sign, rather than a minus between two terms."""
    before = text[max(0, start - REACH) : start]
    sign = _SIGN.search(before)
    if sign is None:
        return False
    head = before[: sign.start()]
    if sign["sign"] != "-" or sign["gap"] or sign["end"]:
        # "7 - 5" subtracts; "x = - 5" does not; "\n- 5" is an item of a list.
        head = head.rstrip(" ")
        if sign["sign"] == "-" and head.endswith("\n"):
            return False
    return _OPERAND.search(head) is None


def _right_number(answer: Any) -> Fraction:
    text = str(answer) if isinstance(answer, int | float | Decimal | Fraction) else answer
    if isinstance(text, str) and not isinstance(answer, bool):
        values = set(read_numbers(text.rpartition("####")[2]))
        if len(values) == 1:
            return values.pop()
    raise AdrpoError(
        f"numeric_answer: expected as answer one number, received {answer!r:.60}; correct the "
        "data, or name its column in the option 'answer'"
    )

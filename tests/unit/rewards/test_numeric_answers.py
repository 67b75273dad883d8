"""Numeric answers: what is read as a number, and which number is the answer."""

from fractions import Fraction
from typing import Any

import pytest

from adrpo.errors import AdrpoError
from adrpo.rewards.numbers import LONGEST, NumericAnswer, read_numbers


def one(reward: Any, completion: Any, **columns: Any) -> float | None:
    (value,) = reward(["q"], [completion], **{name: [column] for name, column in columns.items()})
    return value


def refusal(call: Any) -> str:
    with pytest.raises(AdrpoError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1,234,567.5 and 12", ["2469135/2", "12"]),
        ("-5, −5, minus 5, negative 5, -$5, $-5", ["-5"] * 6),
        ("7 - 5", ["7", "5"]),
        ("7-5", ["7", "5"]),
        ("7 minus 5", ["7", "5"]),
        ("x = - 5", ["-5"]),
        ("The answer is - 5", ["-5"]),
        ("Items:\n- 5\n  - 6", ["5", "6"]),
        ("3/4, 1 3/4, -3/4, 3 / 4", ["3/4", "7/4", "-3/4", "3/4"]),
        (r"\frac{3}{4} and -\dfrac{1}{2}", ["3/4", "-1/2"]),
        (r"\boxed{12}", ["12"]),
        ("1e-3, 2.5E2, .5, -.5", ["1/1000", "250", "1/2", "-1/2"]),
        ("It is 5.", ["5"]),
        ("**5** (5) [5] 5% $5 5!", ["5"] * 6),
        ("1.2.3, v2, H2O, 2x, 5km, 3/4/2025, 1_000", []),
        ("1,23 0,123 1,234,5678", []),
        ("5/0, 10/0.5, 5 / 0.5, 1/2/3", []),
        ("9" * (LONGEST + 1), []),
        ("1e9999", []),
        ("five", []),
    ],
)
def test_what_is_read_as_a_number(text: str, numbers: list[str]) -> None:
    assert read_numbers(text) == [Fraction(number) for number in numbers]


@pytest.mark.parametrize(
    ("text", "answer", "score"),
    [
        ("3 apples and 4 pears make 7", 7, 1),
        ("3 apples and 4 pears make 7", 4, 0),
        ("<answer>7</answer> of 9", 7, 1),
        ("<answer>7</answer> of 9", 9, 0),
        ("<think>9</think> 7", 7, 1),
        ("<think>7", 7, 0),
        ("<answer>$1,234.50</answer>", "1234.5", 1),
        ("<answer>x = 7 apples</answer>", 7, 1),
        ("<answer>0.5</answer>", "1/2", 1),
        ("<answer>-7</answer>", 7, 0),
        ("<answer>- 7</answer>", 7, 0),
        ("<answer>- 7</answer>", -7, 1),
        ("<answer>6 or 7</answer>", 7, 0),
        ("<answer>7, 7</answer>", 7, 0),
        ("<answer>7 - 7</answer>", 7, 0),
        ("<answer>√7</answer>", 7, 0),
        (r"<answer>\sqrt{7}</answer>", 7, 0),
        ("<answer>2^7</answer>", 7, 0),
        ("<answer>y - 7</answer>", 7, 0),
        ("<answer>7x</answer>", 7, 0),
        (r"<answer>\boxed{\frac{7}{2}}</answer>", 3.5, 1),
        ("<answer></answer> 7", 7, 0),
        ("", 7, 0),
        ("It is 18", "She sells 9 * 2 = 18 eggs\n#### 18", 1),
        ("It is 9", "She sells 9 * 2 = 18 eggs\n#### 18", 0),
        ("It is 1,000", "#### 1,000", 1),
        ("7", None, None),
    ],
)
def test_numeric_answers(text: str, answer: Any, score: float | None) -> None:
    assert one(NumericAnswer(), text, answer=answer) == score


def test_tolerances_are_exact_decimals() -> None:
    # In binary floating point 0.3 - 0.2 > 0.1.
    assert one(NumericAnswer(tolerance=0.1), "0.3", answer="0.2") == 1
    assert one(NumericAnswer(tolerance=0.1), "0.3001", answer="0.2") == 0
    assert one(NumericAnswer(relative_tolerance=0.01), "-101", answer=-100) == 1
    assert one(NumericAnswer(relative_tolerance=0.01), "-101.01", answer=-100) == 0
    assert one(NumericAnswer(), "0.333", answer="1/3") == 0
    assert one(NumericAnswer(tolerance=0.5, relative_tolerance=0.01), "1.5", answer=1) == 1
    assert "tolerance >= 0" in refusal(lambda: NumericAnswer(tolerance=-1))


@pytest.mark.parametrize("answer", ["none", "3 or 4", True, [3], float("nan")])
def test_an_answer_without_one_number_is_named(answer: Any) -> None:
    assert repr(answer)[:60] in refusal(lambda: one(NumericAnswer(), "3", answer=answer))


def test_a_long_text_of_numbers_is_read_in_linear_time() -> None:
    """A policy that repeats itself must not stop the run; quadratic time would be minutes."""
    assert len(read_numbers("7 - 5 " * 5_000)) == 10_000
    assert read_numbers("7" * 200_000) == []

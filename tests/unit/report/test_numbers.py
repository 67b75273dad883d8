"""Numbers as reports print them: digits, signs, verdicts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adrpo.report.numbers import Quantity, compact, decimals, duration, fixed, printed, verdict


@given(
    value=st.floats(-1, 1),
    below=st.floats(0, 1),
    above=st.floats(0, 1),
    scale=st.integers(-9, 3),
    places=st.integers(0, 5),
)
def test_nothing_rises_by_zero(
    value: float, below: float, above: float, scale: int, places: int
) -> None:
    change = Quantity(*(10.0**scale * end for end in (value, value - below, value + above)))
    text = printed(change, places, sign=True)
    low, high = (end.strip() for end in text.interval.strip("[]").split(", "))
    for said, sign, ends in (("rose", "+", (text.value, low)), ("fell", "−", (text.value, high))):
        assert (verdict(change, places) == said) == all(end.startswith(sign) for end in ends)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0123456, "0.0123"), (12.345, "12.3"), (12345.6, "12,346"), (-0.5, "−0.500"),
     (1.5e-7, "1.5e−07")],
)  # fmt: skip
def test_compact_keeps_three_digits(value: float, text: str) -> None:
    assert compact(value) == text


def test_number_formats() -> None:
    assert fixed(-0.0004, 3) == "0.000" and fixed(-0.0004, 3, sign=True) == "0.000"
    assert fixed(1234.5, 1, sign=True) == "+1,234.5"
    widths = (12.0, 1.2, 0.12, 0.012, 1e-9)
    assert [decimals([Quantity(0, -w, w)]) for w in widths] == [0, 1, 2, 3, 5]
    assert decimals([Quantity(1), Quantity(1, 1, 1)]) == 3
    assert [duration(s) for s in (12.3, 600, 7200)] == ["12.3 s", "10.0 min", "2.0 h"]


def test_what_is_constant_pretends_no_digits() -> None:
    texts = [
        printed(Quantity(x, x, x), 5, sign=x < 1, short=True)
        for x in (0.0, 1.0, 0.25, 1 / 3, -20.0)
    ]
    assert [(text.value, text.interval) for text in texts] == [
        ("0", "[0, 0]"), ("1", "[1, 1]"), ("+0.25", "[+0.25, +0.25]"),
        ("+0.33333", "[+0.33333, +0.33333]"), ("−20", "[−20, −20]"),
    ]  # fmt: skip
    assert printed(Quantity(20.0, 20.0, 20.0), 0, short=True).value == "20"
    narrow = printed(Quantity(3e-8, 2e-8, 4e-8), 5, short=True)
    assert (narrow.value, narrow.interval) == ("0.00000", "[0.00000, 0.00000]")

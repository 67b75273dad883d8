"""Numbers as reports and comparisons print them: one rule of digits, one formatter.

What is said of a number ("rose", "unchanged", the best of a column) is read off what is printed of
it: no page can say that something rose by 0.00.
"""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

MOST_PLACES = 5
"""Decimals that are shown at most."""

PLACES_WITHOUT_INTERVAL = 3

NO_SIZE = 1e-9
"""Share of a value below which an interval is rounding alone, and no size to show."""

Verdict = Literal["", "rose", "fell", "unchanged"]


@dataclass(frozen=True)
class Quantity:
    """A number with its 95 % interval and standard error, where it has them."""

    value: float
    low: float | None = None
    high: float | None = None
    error: float | None = None

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    @property
    def constant(self) -> bool:
        """True where the interval has no width but by rounding: all that was measured is alike."""
        width = self.half_width
        return width is not None and width <= NO_SIZE * abs(self.value)


@dataclass(frozen=True)
class Printed:
    """A quantity as text: the value, with its error where it has one, and the interval."""

    value: str
    interval: str


def decimals(quantities: Iterable[Quantity]) -> int:
    """Decimals that quantities of one column are printed with: enough for two digits of the median
    half-width of their intervals and one of the median standard error, 0 to MOST_PLACES."""
    half_widths: list[float] = []
    errors: list[float] = []
    for quantity in quantities:
        least = NO_SIZE * abs(quantity.value)
        half_widths += [size for size in [quantity.half_width] if size is not None and size > least]
        errors += [size for size in [quantity.error] if size is not None and size > least]
    needed = [
        digits - 1 - math.floor(math.log10(statistics.median_low(sizes)))
        for sizes, digits in ((half_widths, 2), (errors, 1))
        if sizes
    ]
    return min(MOST_PLACES, max(0, *needed)) if needed else PLACES_WITHOUT_INTERVAL


def fixed(value: float, places: int, *, sign: bool = False) -> str:
    """``value`` with ``places`` decimals, a true minus sign, and no negative zero."""
    text = f"{value:+,.{places}f}" if sign else f"{value:,.{places}f}"
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("+-")
    return text.replace("-", "−")


def as_printed(value: float, places: int) -> float:
    """The number that a reader of ``fixed(value, places)`` sees."""
    return float(f"{value:.{places}f}")


def printed(quantity: Quantity, places: int, *, sign: bool = False, short: bool = False) -> Printed:
    """(value ± error, [low, high]) as text, each where there is one; ``short`` leaves the zeros at
    the end out where all that was measured is alike: 0 [0, 0]."""
    value = fixed(quantity.value, places, sign=sign)
    if quantity.error is not None and not math.isnan(quantity.error):
        value += f" ± {fixed(quantity.error, places)}"
    if quantity.low is None or quantity.high is None:
        return Printed(value, "")
    if short and quantity.constant and quantity.error is None:
        value = value.rstrip("0").rstrip(".") if "." in value else value
        return Printed(value, f"[{value}, {value}]")
    low, high = (fixed(end, places, sign=sign) for end in (quantity.low, quantity.high))
    return Printed(value, f"[{low}, {high}]")


def verdict(change: Quantity, places: int) -> Verdict:
    """The verdict on a change as it prints with ``places`` decimals: its interval holds 0, or lies
    on one side of it; empty without an interval."""
    if change.low is None or change.high is None:
        return ""
    value, low, high = (as_printed(x, places) for x in (change.value, change.low, change.high))
    if min(value, low) > 0:
        return "rose"
    return "fell" if max(value, high) < 0 else "unchanged"


def compact(value: float) -> str:
    """Three significant digits for running text, thousands separated."""
    if value == 0 or abs(value) >= 100:
        return fixed(value, 0)
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return fixed(value, places) if places <= MOST_PLACES else f"{value:.1e}".replace("-", "−")


def capital(text: str) -> str:
    """``text`` as a heading begins, with a capital letter; the rest is left as it is."""
    return text[:1].upper() + text[1:]


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 90:
        return f"{compact(seconds)} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"

"""Columns of a prompt's row that a text-to-image model reads, beside those that rewards read."""

from collections.abc import Iterable
from typing import Any

from adrpo.data.base import Prompt
from adrpo.errors import AdrpoError

NEGATIVE = "negative_prompt"
"""Column of the negative prompt, under the name that it has in the calls of diffusers."""


SIDES = ("height", "width")
"""Columns of the size of a prompt's images, in pixels."""

Size = tuple[int | None, int | None]
"""Height and width in pixels; None is the model's, as its settings have it."""


def size_of(prompt: Prompt) -> Size:
    """The size of a row's images."""
    height, width = (_pixels(prompt.columns.get(side)) for side in SIDES)
    return height, width


def _pixels(value: Any) -> int | None:
    """The number of pixels in a column; None where it is empty. Raises ValueError otherwise."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("no number")
    # A table has texts, and a column with gaps may have floats.
    number = int(value) if isinstance(value, str) or float(value).is_integer() else 0
    if number < 1:
        raise ValueError("no whole number above 0")
    return number


def negative_prompt_of(prompt: Prompt) -> str | None:
    """The negative prompt of a row, without the spaces around it; None where it has none, and that
    of the run holds, if any."""
    value = prompt.columns.get(NEGATIVE)
    return (value.strip() or None) if isinstance(value, str) else None


def check_columns(source: str, prompts: Iterable[Prompt]) -> None:
    """Raise AdrpoError for the first of ``prompts`` of ``source`` with a column that a model can't
    read: a negative prompt that is no text, or a side that is no number of pixels."""
    for prompt in prompts:
        for side in SIDES:
            try:
                _pixels(prompt.columns.get(side))
            except (ValueError, OverflowError):
                raise AdrpoError(
                    f"{source}: expected a whole number of pixels in the column {side}, the "
                    f"{side} of the prompt's images, received {prompt.columns[side]!r:.60} beside "
                    f"the prompt {prompt.text[:60]!r}; mend it, or rename the column if it is "
                    f"something else"
                ) from None
        value = prompt.columns.get(NEGATIVE)
        if value is not None and not isinstance(value, str):
            raise AdrpoError(
                f"{source}: expected a text in the column {NEGATIVE}, the negative prompt of "
                f"guidance, received {value!r:.60} beside the prompt {prompt.text[:60]!r}; mend "
                f"it, or rename the column if it is something else"
            )

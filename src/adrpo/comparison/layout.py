"""Tables that fit the page: columns that are too many for a row of it go into further tables."""

from collections.abc import Iterator, Sequence
from typing import Any

PAGE = 1100.0
"""CSS pixels that a table has in a window of 1,280."""

LARGE, SMALL, PADDING = 9.6, 7.4, 24.0
"""CSS pixels of a digit of a value and of what is printed small, and beside a column."""

NAME_LEAST, NAME_MOST = 90.0, 230.0
"""CSS pixels of the first column, whose names wrap."""

Rows = Sequence[tuple[str, Sequence[Any]]]


def parts(labels: Sequence[str], rows: Rows) -> Iterator[tuple[slice, list[tuple[str, list[Any]]]]]:
    """The columns of each table that ``rows`` are printed in, and the rows with their cells.

    Args:
        labels: headings of the columns, which wrap between words.
        rows: name and cells, a printed number or None each.
    """
    names = max((LARGE * len(name) for name, _ in rows), default=0.0)
    space = PAGE - min(max(names, NAME_LEAST), NAME_MOST) - PADDING
    start, used = 0, 0.0
    for place, label in enumerate(labels):
        width = _width(label, [cells[place] for _, cells in rows])
        if used + width > space and place > start:
            yield _cut(slice(start, place), rows)
            start, used = place, 0.0
        used += width
    if start < len(labels):
        yield _cut(slice(start, len(labels)), rows)


def _cut(columns: slice, rows: Rows) -> tuple[slice, list[tuple[str, list[Any]]]]:
    return columns, [(name, list(cells[columns])) for name, cells in rows]


def _width(label: str, cells: Sequence[Any]) -> float:
    heading = max(SMALL * len(word) for word in [*label.split(), ""])
    numbers = [
        max(LARGE * (len(cell.value) + 1), SMALL * len(cell.interval))
        for cell in cells
        if cell is not None
    ]
    return max([heading, *numbers]) + PADDING

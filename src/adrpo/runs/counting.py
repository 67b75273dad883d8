"""The counts within a long work: samples that are drawn, prompts that are encoded.

What counts knows no bar, and what shows a bar knows no loop: they meet here. Loops may be nested.
"""

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

Part = TypeVar("Part", bound=Sized)


@dataclass(eq=False)
class _Count:
    done: int
    total: int
    what: str


_counts: list[_Count] = []
"""Counts that go on, the outermost first."""


@contextmanager
def counted(parts: Iterable[Part], total: int, what: str) -> Iterator[Iterator[Part]]:
    """A block with the ``parts`` of a work on ``total`` things, to be gone through there; those
    that were are counted until its end.

    Args:
        parts: batches, each with a length.
        total: the sum of their lengths.
        what: the word for the things: samples, prompts.
    """
    count = _Count(0, total, what)
    _counts.append(count)
    try:
        yield _each(parts, count)
    finally:  # also where a traceback keeps the loop alive
        _counts.remove(count)


def _each(parts: Iterable[Part], count: _Count) -> Iterator[Part]:
    for part in parts:
        yield part
        count.done += len(part)


def so_far() -> str:
    """A line of the counts that go on, as ``64 of 408 images``; empty where nothing counts."""
    return ", ".join(f"{count.done} of {count.total} {count.what}" for count in list(_counts))

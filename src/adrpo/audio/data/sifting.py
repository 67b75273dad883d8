"""Rows tried one by one: the first that fails ends the run, or all that fail are left out."""

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from rich.progress import track

from adrpo.errors import AdrpoError, AdrpoWarning

Item = TypeVar("Item")
Result = TypeVar("Result")

NAMED = 3
"""Rows that a message names at most."""


def sift(
    rows: Sequence[tuple[str, Item]],
    do: Callable[[Item], Result],
    *,
    faulty: str,
    of: str,
    parallel: bool = False,
    shown: str | None = None,
) -> list[tuple[str, Item, Result]]:
    """(where it stands, the item, what ``do`` makes of it) for each row that it doesn't refuse.

    Args:
        rows: (where it stands, the item) each.
        do: raises AdrpoError for an item to refuse.
        faulty: "refuse" or "leave_out", as the key of the configuration.
        of: what the items are, for messages.
        parallel: whether several threads do it, for what reads files.
        shown: text before a progress bar; None shows none.

    Raises:
        AdrpoError: with "refuse" the first refusal, with its row, and how many follow; with
            "leave_out" where nothing is left.

    Warns:
        AdrpoWarning: with "leave_out" how many are left out, and the first of them.
    """

    def tried(row: tuple[str, Item]) -> Result | AdrpoError:
        try:
            return do(row[1])
        except AdrpoError as error:
            return AdrpoError(f"{row[0]}: {error}")

    with ThreadPoolExecutor() as pool:
        outcomes = (pool.map if parallel else map)(tried, rows)
        bar: Any = {"total": len(rows), "disable": shown is None}
        results = list(track(outcomes, shown or "", **bar))
    refused = [str(result) for result in results if isinstance(result, AdrpoError)]
    kept = [
        (where, item, result)
        for (where, item), result in zip(rows, results, strict=True)
        if not isinstance(result, AdrpoError)
    ]
    if refused and (faulty == "refuse" or not kept):
        more = f" ({len(refused) - 1} more of {len(rows)} {of} are refused)" if refused[1:] else ""
        raise AdrpoError(refused[0] + more)
    if refused:
        tell(f"{len(refused)} of {len(rows)} {of} are left out", refused)
    return kept


def tell(what: str, rows: Sequence[str]) -> None:
    """Warn of ``what``, and name the first of ``rows``."""
    named = "; ".join(rows[:NAMED]) + ("; ..." if rows[NAMED:] else "")
    warnings.warn(f"{what}: {named}", AdrpoWarning, stacklevel=3)

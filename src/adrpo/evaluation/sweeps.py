"""The untrained base, measured at several values of one setting: a file of a comparison's folder.

The file maps the setting's name to a list, and each metric to one table [prompts][samples], or
[prompts], for each item of that list; null where that item has no such metric. Best of n has the
setting "n", classifier-free guidance "guidance".
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from adrpo.errors import AdrpoError
from adrpo.evaluation.values import Values, plain
from adrpo.runs.durable import write_durably

Sweep = dict[float, Values]
"""Value of the setting -> metric -> [prompts, K], or [prompts] for a metric of a prompt."""


def write_sweeps(
    path: Path,
    setting: str,
    sweep: Sweep,
    *,
    facts: Mapping[str, Any] | None = None,
    **others: Sweep,
) -> None:
    """Write ``sweep`` by growing values of ``setting``, ``others`` in the same form under their
    names, and ``facts``, objects that say how it was measured."""
    nested = {name: _tables(other, setting) for name, other in others.items()}
    content = _tables(sweep, setting) | nested | dict(facts or {})
    write_durably(path, (json.dumps(content) + "\n").encode())


def read_sweeps(path: Path, setting: str, *others: str) -> list[Sweep]:
    """The sweep that a file holds, and those under the names ``others``; empty ones for what is
    not there, and where there is no file.

    Raises AdrpoError where the file holds something else.
    """
    if not path.exists():
        return [{} for _ in ("", *others)]
    with _refusing_else(path, setting):
        found = json.loads(path.read_text(encoding="utf-8"))
        nested = [found[name] if name in found else {setting: []} for name in others]
        return [_sweep(tables, setting) for tables in (found, *nested)]


def read_fact(path: Path, setting: str, name: str) -> Any:
    """The fact under ``name`` of how a file was measured; None where it says nothing, and where
    there is no file.

    Raises AdrpoError as :func:`read_sweeps` does.
    """
    if not path.exists():
        return None
    with _refusing_else(path, setting):
        return json.loads(path.read_text(encoding="utf-8")).get(name)


@contextmanager
def _refusing_else(path: Path, setting: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AdrpoError(
            f"{path}: expected {setting!r} and, for each metric, a table [prompts][samples] for "
            f"each {setting}; received {type(error).__name__}: {error}; remove the file to compare "
            f"without it"
        ) from None


def _tables(sweep: Sweep, setting: str) -> dict[str, Any]:
    places = sorted(sweep)
    names = dict.fromkeys(name for place in places for name in sweep[place])
    tables: dict[str, Any] = {setting: places}
    for name in names:
        columns = (sweep[place].get(name) for place in places)
        tables[name] = [None if column is None else plain(column) for column in columns]
    return tables


def _sweep(tables: Mapping[str, Any], setting: str) -> Sweep:
    places = [place + 0 for place in tables[setting]]
    found: Sweep = {place: {} for place in places}
    for name, columns in tables.items():
        if name == setting or not isinstance(columns, list):
            continue
        for place, column in zip(places, columns, strict=True):
            if column is not None:
                found[place][name] = np.asarray(column, dtype=np.float64)
    return found

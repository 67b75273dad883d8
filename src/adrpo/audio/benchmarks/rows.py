"""Rows of a JSON file, a list or one object a line, with its checksum."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adrpo.data.files import utf_8_text
from adrpo.errors import AdrpoError

Row = dict[str, Any]


@dataclass(frozen=True)
class RowFile:
    """A file's rows, each with where it stands, and the sha256 of the bytes that were read."""

    path: Path
    sha256: str
    rows: list[tuple[str, Row]]


def read_rows(path: Path, expected: str) -> RowFile:
    """The rows of ``path``: of a .jsonl file the objects of its lines, else of a JSON list.

    Args:
        path: the file.
        expected: what it should hold, for the messages ("questions").

    Raises:
        AdrpoError: no such file, not UTF-8, not JSON, something else than objects, or no row.
    """
    try:
        text = utf_8_text(path)
        content = path.read_bytes()
    except OSError as error:
        raise AdrpoError(f"{path}: expected a file of {expected}; {error.strerror}") from None
    values = _lines(text, path) if path.suffix == ".jsonl" else _items(text, path)
    rows = []
    for where, value in values:
        if not isinstance(value, dict):
            raise AdrpoError(
                f"{where}: expected a JSON object, one of the {expected}; received {value!r:.60}"
            )
        rows.append((where, value))
    if not rows:
        raise AdrpoError(f"{path}: expected {expected}; received a file without any")
    return RowFile(path, hashlib.sha256(content).hexdigest(), rows)


def _lines(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    # Not splitlines(): JSON text may hold U+2028 and its like.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, _parsed(line, where, "a JSON object in each line")


def _items(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    values = _parsed(text, str(path), "a JSON list")
    if not isinstance(values, list):
        raise AdrpoError(
            f"{path}: expected a JSON list of objects; received {values!r:.60}; a file with one "
            f"object a line is named .jsonl"
        )
    for number, value in enumerate(values):
        yield f"{path}, row {number}", value


def _parsed(text: str, where: str, expected: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise AdrpoError(
            f"{where}: expected {expected}; received text that is not JSON ({error}); a "
            f"file with one object a line is named .jsonl"
        ) from None


def text_of(row: Row, key: str, where: str) -> str:
    """The text under ``key`` of a row; AdrpoError where it is missing, blank or no text."""
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        received = f"{value!r:.60}" if key in row else f"the keys {', '.join(row) or 'none':.120}"
        raise AdrpoError(f"{where}: expected {key!r} as a text; received {received}")
    return value


def id_of(row: Row, where: str) -> str:
    """The id of a row; AdrpoError where it is missing, or not a text that fits into a line."""
    value = text_of(row, "id", where)
    if not value.isprintable():
        raise AdrpoError(f"{where}: expected 'id' as a printable text; received {value!r:.60}")
    return value

"""Reads prompts from text, JSON Lines and tables, and says in which line a file is wrong."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adrpo.data.base import Prompt
from adrpo.errors import AdrpoError


def read_text(path: Path) -> list[Prompt]:
    """One prompt a line; blank lines are skipped.

    Raises:
        AdrpoError: a file that is missing, empty or not UTF-8.
    """
    return [Prompt(line.strip(), "") for _, line in numbered_lines(path)]


def read_jsonl(
    path: Path, *, text: str = "prompt", category: str = "category", optional: bool = True
) -> list[Prompt]:
    """One JSON object a line; ``text`` and ``category`` name its fields, others are ignored.

    ``category`` may be absent where it is ``optional``. Blank lines are skipped.

    Raises:
        AdrpoError: a file that is missing, empty or not UTF-8, or a line without these fields
            as text.
    """
    also = f'and, optionally, "{category}"' if optional else f'and "{category}"'
    expected = f'an object with "{text}" {also}, both text'
    default = "" if optional else None
    prompts: list[Prompt] = []
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}"
        row = parse_object(line, where, expected)
        found, group = row.get(text), row.get(category, default)
        if not isinstance(found, str) or not found.strip() or not isinstance(group, str):
            raise AdrpoError(f"{where}: expected {expected}, received {line.strip()[:60]}")
        prompts.append(Prompt(found.strip(), group.strip()))
    return prompts


def read_table(
    path: Path, *, text: tuple[str, ...], category: str, delimiter: str, quotes: bool
) -> list[Prompt]:
    """A table with a line of column names; ``text`` lists the names that the prompts may have.

    With ``quotes`` a field in quotation marks may hold the delimiter, without it a quotation mark
    is a character as any other. Rows of empty fields are skipped.

    Raises:
        AdrpoError: a file that is missing, empty or not UTF-8, columns of other names, a row with
            more or fewer fields than there are columns, without a prompt or without a category,
            or a quotation that never ends.
    """
    header, rows = read_rows(path, delimiter=delimiter, quotes=quotes)
    named = [name for name in text if name in header]
    if not named or category not in header:
        raise AdrpoError(
            f"{path}, line 1: expected the columns {' or '.join(text)} and {category}, "
            f"received {', '.join(header)[:60] or 'an empty line'}"
        )
    prompt_at, category_at = header.index(named[0]), header.index(category)
    prompts: list[Prompt] = []
    for number, row in rows:
        prompt = Prompt(row[prompt_at].strip(), row[category_at].strip())
        if not prompt.text or not prompt.category:
            missing = category if prompt.text else named[0]
            raise AdrpoError(
                f"{path}, line {number}: expected a {missing}, received an empty field"
            )
        prompts.append(prompt)
    if not prompts:
        raise no_prompt(path)
    return prompts


def read_rows(
    path: Path, *, delimiter: str, quotes: bool
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The column names of a table, and its rows with the number of each one's last line.

    Rows of empty fields are skipped. ``quotes`` as for :func:`read_table`.

    Raises:
        AdrpoError: a file that is missing or not UTF-8; and, from the rows, one with more or fewer
            fields than there are columns, or a quotation that never ends.
    """
    quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    reader = csv.reader(
        io.StringIO(_decode(path)), delimiter=delimiter, quoting=quoting, strict=True
    )
    lines = _table_lines(reader, path)
    _, names = next(lines, (0, []))
    header = [name.strip() for name in names]
    return header, _full_rows(lines, len(header), path)


def _full_rows(
    lines: Iterator[tuple[int, list[str]]], columns: int, path: Path
) -> Iterator[tuple[int, list[str]]]:
    for number, row in lines:
        if not any(field.strip() for field in row):
            continue
        if len(row) != columns:
            raise AdrpoError(
                f"{path}, line {number}: expected {columns} fields, received {len(row)}"
            )
        yield number, row


def _table_lines(reader: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise AdrpoError(f"{path}, line {reader.line_num}: expected a table; {error}") from None


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1.

    Raises:
        AdrpoError: a file that is missing, empty or not UTF-8.
    """
    # Not splitlines(): JSON text may hold U+2028 and its like inside a prompt.
    lines = enumerate(_decode(path).split("\n"), 1)
    found = [(number, line) for number, line in lines if line.strip()]
    if not found:
        raise no_prompt(path)
    return found


def no_prompt(path: Path) -> AdrpoError:
    """The error of a file without a prompt."""
    return AdrpoError(f"{path}: expected at least one prompt, received an empty file")


def _decode(path: Path) -> str:
    try:
        return utf_8_text(path)
    except OSError as error:
        raise AdrpoError(f"{path}: expected a file of prompts; {error.strerror}") from None


def utf_8_text(path: Path) -> str:
    """The text of a file, without a byte order mark.

    Raises:
        AdrpoError: it is not UTF-8; the line that is wrong is named.
        OSError: it can't be read.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise AdrpoError(
            f"{path}, line {line}: expected UTF-8 text, received byte "
            f"0x{error.object[error.start]:02x} at offset {error.start}; save the file as UTF-8"
        ) from None


def parse_object(line: str, where: str, expected: str) -> dict[str, Any]:
    """The JSON object in ``line``; {} where it is another value than an object.

    Raises:
        AdrpoError: not JSON; ``where`` and ``expected`` begin its message.
    """
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise AdrpoError(
            f"{where}, column {error.colno}: expected {expected}; received text that "
            f"is not JSON ({error.msg})"
        ) from None
    return row if isinstance(row, dict) else {}

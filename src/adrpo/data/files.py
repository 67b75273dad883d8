"""Reads rows from text, JSON and tables, and says in which line a file is wrong."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adrpo.data.base import Row
from adrpo.errors import AdrpoError, or_did_you_mean, reading


def read_text(path: Path) -> Iterator[tuple[str, Row]]:
    """(where it stands, {"prompt": line}) for each line that is not blank, without the spaces
    around it.

    Raises:
        AdrpoError: a file that is missing, empty or not UTF-8.
    """
    for number, line in numbered_lines(path):
        yield f"{path}, line {number}", {"prompt": line.strip()}


def read_jsonl(path: Path) -> Iterator[tuple[str, Row]]:
    """(where it stands, the object) for each line that is not blank; {} for another JSON value.

    Raises:
        AdrpoError: a file that is missing, empty or not UTF-8, or a line that is not JSON.
    """
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}"
        yield where, parse_object(line, where, "a JSON object with the prompt")


def read_json(path: Path) -> Iterator[tuple[str, Row]]:
    """(where it stands, the object) for each item of a list in JSON; {} for another item.

    Raises:
        AdrpoError: a file that is missing, empty, not UTF-8 or not a list in JSON.
    """
    expected = "a list of JSON objects with the prompts"
    rows = parse_json(_decode(path), str(path), expected)
    if not isinstance(rows, list):
        raise AdrpoError(
            f"{path}: expected {expected}, received one {type(rows).__name__}; write the rows as "
            f"[...], or one a line into a .jsonl file"
        )
    for number, row in enumerate(rows, 1):
        yield f"{path}, item {number}", row if isinstance(row, dict) else {}


def read_parquet(path: Path) -> Iterator[tuple[str, Row]]:
    """(where it stands, column -> value) for each row of a Parquet file, with its types.

    Raises:
        AdrpoError: a file that is missing or no Parquet, or pyarrow is not installed.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise AdrpoError(
            f"{path}: a .parquet file needs the package pyarrow ({error}): pip install '.[llm]' in "
            f"the folder of adrpo"
        ) from error
    with reading(f"{path}: expected a Parquet file", "write it again, or as a .jsonl file"):
        opened: Any = parquet.ParquetFile(path)
        batches: list[Any] = [batch.to_pylist() for batch in opened.iter_batches()]
    for number, row in enumerate((row for batch in batches for row in batch), 1):
        yield f"{path}, row {number}", row


def read_csv(path: Path) -> Iterator[tuple[str, Row]]:
    """(where it stands, column -> text) for each row of a table with a line of column names.

    Raises:
        AdrpoError: as :func:`read_table`.
    """
    header, rows = read_table(path, delimiter=",", quotes=True)
    for number, fields in rows:
        yield f"{path}, line {number}", dict(zip(header, fields, strict=True))


def read_table(
    path: Path, *, delimiter: str, quotes: bool
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """The column names of a table, and its rows with the number of each one's last line.

    With ``quotes`` a field in quotation marks may hold the delimiter, without it a quotation mark
    is a character as any other. Rows of empty fields are skipped.

    Raises:
        AdrpoError: a file that is missing or not UTF-8, or columns without a name or with equal
            ones; and, from the rows, one with more or fewer fields than there are columns, or a
            quotation that never ends.
    """
    quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    reader = csv.reader(
        io.StringIO(_decode(path)), delimiter=delimiter, quoting=quoting, strict=True
    )
    lines = _table_lines(reader, path)
    _, names = next(lines, (0, []))
    header = [name.strip() for name in names]
    if len(set(header)) != len(header) or "" in header:
        raise AdrpoError(
            f"{path}, line 1: expected different names of columns, received {', '.join(header):.60}"
        )
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


def no_prompt(source: Path | str) -> AdrpoError:
    """The error of a file or a data set without a prompt."""
    return AdrpoError(f"{source}: expected at least one prompt, received an empty file")


def _decode(path: Path) -> str:
    try:
        return utf_8_text(path)
    except OSError as error:
        raise AdrpoError(
            f"{path}: expected a file of prompts; {error.strerror}{or_did_you_mean(path)}"
        ) from None


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
    row = parse_json(line, where, expected)
    return row if isinstance(row, dict) else {}


def parse_json(text: str, where: str, expected: str) -> Any:
    """The value that ``text`` is in JSON; errors as of :func:`parse_object`."""
    try:
        value: Any = json.loads(text)
        # Half of a pair that stands for one character can't be written, nor be read by a model.
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise AdrpoError(
            f"{where}{_line(error)}, column {error.colno}: expected {expected}; received text that "
            f"is not JSON ({error.msg})"
        ) from None
    except UnicodeEncodeError as error:
        raise AdrpoError(
            f"{where}: expected {expected}; received half of a surrogate pair, "
            f"{error.object[error.start]!r}, which is no character; remove it"
        ) from None
    except (RecursionError, ValueError) as error:  # lists without end, numbers of 5000 digits
        raise AdrpoError(f"{where}: expected {expected}; received {error}; mend the line") from None
    return value


def _line(error: json.JSONDecodeError) -> str:
    """The line of a text of several that is wrong."""
    return f", line {error.lineno}" if "\n" in error.doc.strip() else ""

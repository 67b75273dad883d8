"""Prompts for language models: rows of a prompt and further columns, as TRL takes them."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adrpo.data.files import no_prompt, numbered_lines, parse_object, read_rows
from adrpo.errors import AdrpoError

Row = dict[str, Any]
"""{"prompt": a text or a list of messages {"role", "content"}, and any other columns}."""

TRAIN = "train"


@dataclass(frozen=True)
class LanguageSet:
    """How a published data set is read: its column of prompts, and whether repeated ones go."""

    prompt: str
    unique: bool


LANGUAGE_SETS = {
    # 2,000 conversations of the sources of RLHFlow's iterative DPO; the paper's LLM experiment.
    "RLHFlow/test_generation_2k": LanguageSet(prompt="context_messages", unique=True),
}
"""Hub id of a data set -> how it is read."""


def load_rows(
    source: str | Path,
    *,
    prompt: str | None = None,
    unique: bool | None = None,
    split: str = TRAIN,
    config: str | None = None,
    revision: str | None = None,
) -> list[Row]:
    """The rows of ``source`` in its order, each with the same columns, ``prompt`` the first.

    Args:
        source: one of

            - the path of a .jsonl file with one object a line, or of a .csv file with a line of
              column names (all its values are texts);
            - a folder that ``datasets`` wrote with save_to_disk, or that holds a data set's files
              as the Hub does;
            - the id of a data set on the Hugging Face Hub, "owner/name"; LANGUAGE_SETS lists those
              whose columns are known ("RLHFlow/test_generation_2k").
        prompt: the column with the prompts, which is renamed to "prompt"; None: the known set's
            own, else "prompt".
        unique: whether only the first row of each prompt is kept; None: as the known set wants
            it, else False.
        split: which split; files have none but "train".
        config, revision: of a data set on the Hub.

    A prompt is a text that is not blank, or a list of messages with "role" and "content", both
    texts. A column that a row lacks is None there.

    Raises:
        AdrpoError: no such source or column, a row without a prompt (file, line and column are
            named), a data set that can't be loaded, or ``datasets`` is not installed.
    """
    known = LANGUAGE_SETS.get(str(source), LanguageSet("prompt", unique=False))
    name = known.prompt if prompt is None else prompt
    rows = [
        _row(row, name, where) for where, row in _raw_rows(Path(source), split, config, revision)
    ]
    if not rows:
        raise no_prompt(Path(source))
    if known.unique if unique is None else unique:
        first: dict[str, Row] = {}
        for row in rows:
            first.setdefault(json.dumps(row["prompt"]), row)
        rows = list(first.values())
    columns = dict.fromkeys(column for row in rows for column in row)
    return [{column: row.get(column) for column in columns} for row in rows]


def split_rows(
    rows: Sequence[Row], *, seed: int, held_out: float = 0.1
) -> tuple[list[Row], list[Row]]:
    """Rows to train on and rows to evaluate on, each in their order, without a common prompt.

    The different prompts are ranked by the SHA-256 of the seed and the prompt; the first
    round(held_out * prompts) of them are held out. Hence the same parts whatever the order of the
    rows. Prompts that differ in case and spaces only are one prompt.

    Args:
        rows: as :func:`load_rows` gives them.
        seed: which of the possible splits.
        held_out: the share of the different prompts that is held out, between 0 and 1.

    Raises:
        AdrpoError: a share out of range, or one that leaves a part without a row.
    """
    keys = [_key(row["prompt"]) for row in rows]
    ranked = sorted(set(keys), key=lambda key: hashlib.sha256(f"{seed}\n{key}".encode()).digest())
    count = round(held_out * len(ranked))
    if not 0 < count < len(ranked):
        raise AdrpoError(
            f"expected a share to hold out that leaves both parts a prompt, received {held_out!r} "
            f"of {len(ranked)} different prompts; change the share, or name a larger source"
        )
    chosen = set(ranked[:count])
    sides: tuple[list[Row], list[Row]] = ([], [])
    for row, key in zip(rows, keys, strict=True):
        sides[key in chosen].append(row)
    return sides


def _key(prompt: Any) -> str:
    messages = [{"role": "", "content": prompt}] if isinstance(prompt, str) else prompt
    return json.dumps([[m["role"], " ".join(m["content"].casefold().split())] for m in messages])


def _row(row: Mapping[str, Any], name: str, where: str) -> Row:
    if name not in row:
        raise AdrpoError(
            f"{where}: expected a column {name!r} with the prompt, received the columns "
            f"{', '.join(map(str, row)) or 'of no object':.120}; name it in the option 'prompt'"
        )
    if name != "prompt" and "prompt" in row:
        raise AdrpoError(
            f"{where}: expected one column of prompts, received {name!r} and 'prompt'; remove or "
            "rename one of them"
        )
    others = {column: value for column, value in row.items() if column != name}
    return {"prompt": _prompt(row[name], f"{where}, column {name!r}"), **others}


def _prompt(value: Any, where: str) -> str | list[dict[str, Any]]:
    if isinstance(value, str) and value.strip():
        return value
    if not isinstance(value, list) or not value:
        raise AdrpoError(
            f"{where}: expected a text that is not blank or a list of messages "
            f'{{"role", "content"}}, received {value!r:.60}'
        )
    for number, message in enumerate(value):
        known = message if isinstance(message, dict) else {}
        if not all(isinstance(known.get(key), str) for key in ("role", "content")):
            raise AdrpoError(
                f'{where}, message {number}: expected {{"role", "content"}}, both texts, '
                f"received {message!r:.60}"
            )
    # Arrow gives every message every key that one of them has.
    return [{key: part for key, part in message.items() if part is not None} for message in value]


def _raw_rows(
    source: Path, split: str, config: str | None, revision: str | None
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """(where it stands, the row) for each row."""
    readers = {".jsonl": _read_jsonl, ".csv": _read_csv}
    if source.suffix in readers:
        if split != TRAIN:
            raise AdrpoError(
                f"{source}: a file has no split {split!r}; name the file of that split"
            )
        return readers[source.suffix](source)
    if not source.is_dir() and not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        raise AdrpoError(
            f"expected a {' or '.join(readers)} file, a folder, or the id of a data set on the Hub "
            f"('owner/name'), received {str(source)!r}"
        )
    return _read_dataset(source, split, config, revision)


def _read_jsonl(path: Path) -> Iterator[tuple[str, Row]]:
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}"
        yield where, parse_object(line, where, "a JSON object with the prompt")


def _read_csv(path: Path) -> Iterator[tuple[str, Row]]:
    header, rows = read_rows(path, delimiter=",", quotes=True)
    if len(set(header)) != len(header) or "" in header:
        raise AdrpoError(
            f"{path}, line 1: expected different names of columns, received {', '.join(header):.60}"
        )
    for number, fields in rows:
        yield f"{path}, line {number}", dict(zip(header, fields, strict=True))


def _read_dataset(
    source: Path, split: str, config: str | None, revision: str | None
) -> Iterator[tuple[str, Row]]:
    try:
        import datasets
    except ImportError as error:
        raise AdrpoError(
            f"{source}: a data set needs the package datasets ({error}): "
            "pip install '.[llm]' in the folder of adrpo"
        ) from error
    saved = any((source / name).is_file() for name in ("state.json", "dataset_dict.json"))
    try:
        if saved:
            loaded: Any = datasets.load_from_disk(str(source))
        else:
            loaded = datasets.load_dataset(str(source), config, split=split, revision=revision)
    except (OSError, ValueError) as error:  # the Hub's errors and those of splits and configs
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise AdrpoError(
            f"{source}: expected a data set with the split {split!r}, which can't be loaded: "
            f"{reason}; check its id, split and config, or name a .jsonl file"
        ) from error
    if saved:
        loaded = _saved_split(loaded, source, split)
    for number, row in enumerate(loaded):
        yield f"{source}, row {number}", row


def _saved_split(loaded: Any, source: Path, split: str) -> Any:
    """What save_to_disk wrote is either one split or a mapping of them."""
    known = list(loaded) if isinstance(loaded, dict) else [str(loaded.split or TRAIN)]
    if split not in known:
        raise AdrpoError(
            f"{source}: expected the split {split!r}, received {', '.join(known)}; name one of them"
        )
    return loaded[split] if isinstance(loaded, dict) else loaded

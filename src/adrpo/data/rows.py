"""Prompts from rows: one's own files and data sets, a prompt and further columns in each row."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adrpo.data.base import Content, Prompt, Row, prompts_of
from adrpo.data.files import (
    no_prompt,
    read_csv,
    read_json,
    read_jsonl,
    read_parquet,
    read_text,
)
from adrpo.data.huggingface import TRAIN, read_dataset
from adrpo.errors import AdrpoError

FILES: dict[str, Callable[[Path], Iterator[tuple[str, Row]]]] = {
    ".txt": read_text,
    ".jsonl": read_jsonl,
    ".json": read_json,
    ".csv": read_csv,
    ".parquet": read_parquet,
}
"""Suffix of a file -> what reads its rows."""


@dataclass(frozen=True)
class KnownSet:
    """A published data set: its column of prompts, and whether repeated ones go."""

    prompt: str
    unique: bool


KNOWN_SETS = {
    # 2,000 conversations of the sources of RLHFlow's iterative DPO; the paper's LLM experiment.
    "RLHFlow/test_generation_2k": KnownSet(prompt="context_messages", unique=True),
}
"""Hub id of a data set -> how it is read."""


def read_prompts(
    source: str,
    *,
    prompt: str | None = None,
    unique: bool | None = None,
    cut_answers: bool = False,
    split: str = TRAIN,
    config: str | None = None,
    revision: str | None = None,
) -> list[Prompt]:
    """The prompts of ``source`` in its order, with all further columns of their rows.

    Args:
        source: one of

            - the path of a .txt file with one prompt a line, of a .jsonl file with one object a
              line, of a .json file with a list of them, of a .parquet file, or of a .csv file with
              a line of column names (all its values are texts);
            - a folder or the Hub id of a data set (:func:`~adrpo.data.huggingface.read_dataset`);
              KNOWN_SETS lists those whose columns are known ("RLHFlow/test_generation_2k").
        prompt: the column with the prompts; None: the known set's own, else "prompt".
        unique: whether only the first row of each prompt is kept; None: as the known set wants
            it, else False.
        cut_answers: whether the assistant's turn that ends a conversation is left out.
        split: which split; files have none but "train".
        config, revision: of a data set on the Hub.

    A prompt is a text that is not blank, or a list of messages with "role" and "content", both
    texts; it keeps its form. The column "category", if there is one, groups the metrics.

    Raises:
        AdrpoError: no such source or column, a row without a prompt (file, line and column are
            named) or with the answer in it, a column with a name that rewards know for something
            else, a data set that
            can't be loaded, or ``datasets`` is not installed.
    """
    known = KNOWN_SETS.get(source, KnownSet("prompt", unique=False))
    name = known.prompt if prompt is None else prompt
    rows = _located_rows(source, split, config, revision)
    prompts = prompts_of((where, _row(row, name, where, cut_answers)) for where, row in rows)
    if not prompts:
        raise no_prompt(source)
    return first_of_each(prompts) if (known.unique if unique is None else unique) else prompts


def first_of_each(prompts: Iterable[Prompt]) -> list[Prompt]:
    """The first of the prompts with the same content, in their order."""
    first: dict[str, Prompt] = {}
    for prompt in prompts:
        first.setdefault(json.dumps(prompt.content), prompt)
    return list(first.values())


def _row(row: Mapping[str, Any], name: str, where: str, cut_answers: bool) -> Row:
    """``row`` with its prompt, which is checked, under the name "prompt"."""
    if name not in row:
        raise AdrpoError(
            f"{where}: expected a column {name!r} with the prompt, received the columns "
            f"{', '.join(map(str, row)) or 'of no object':.120}; rename it (a recipe of language "
            f"models can name it: prompts.column)"
        )
    if name != "prompt" and "prompt" in row:
        raise AdrpoError(
            f"{where}: expected one column of prompts, received {name!r} and 'prompt'; remove or "
            "rename one of them"
        )
    others = {column: value for column, value in row.items() if column != name}
    place = f"{where}, column {name!r}"
    content = _content(row[name], place)
    if not isinstance(content, str):
        content = _asking(content, place, cut_answers)
    return {"prompt": content, **others}


def _asking(turns: list[dict[str, Any]], where: str, cut_answers: bool) -> list[dict[str, Any]]:
    """A conversation that asks for the assistant's turn, and does not have it already."""
    kept = turns
    while cut_answers and kept and kept[-1]["role"] == "assistant":
        kept = kept[:-1]
    if kept and kept[-1]["role"] != "assistant":
        return kept
    advice = "leave the row out" if cut_answers else "cut it, or set prompts.cut_answers=true"
    raise AdrpoError(
        f"{where}: expected a conversation that ends with what the assistant is to answer, "
        f"received one that ends with its turn, {turns[-1]['content']!r:.60}, so that the answer "
        f"would stand in the prompt; {advice}"
    )


def _content(value: Any, where: str) -> Content:
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


def is_hub_id(source: str) -> bool:
    """True where ``source`` has the form of a data set's id on the Hub, and nothing of that name
    lies here."""
    path = Path(source)
    if path.suffix in FILES or path.exists():
        return False
    return re.fullmatch(r"[\w.-]+/[\w.-]+", source) is not None


def _located_rows(
    source: str, split: str, config: str | None, revision: str | None
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """(where it stands, the row) for each row."""
    path = Path(source)
    if path.suffix in FILES:
        if split != TRAIN:
            raise AdrpoError(
                f"{source}: a file has no split {split!r}; name the file of that split"
            )
        return FILES[path.suffix](path)
    if not (path.is_dir() or is_hub_id(source)):
        raise AdrpoError(
            f"expected a {', '.join(FILES)} file, a folder, or the id of a data set on the Hub "
            f"('owner/name'), received {source!r}"
        )
    return read_dataset(source, split=split, config=config, revision=revision)

"""Prompts from the scenes world, a text file (one a line) or a JSON Lines file."""

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adrpo.embedded.scenes import caption, prompt_set
from adrpo.errors import AdrpoError

SCENES_SETS = {"scenes:train": False, "scenes:held_out": True}
"""Name of a set of the scenes world -> whether it is the held-out split."""


@dataclass(frozen=True)
class Prompt:
    """One prompt. ``category`` groups the metrics; it is empty where the source names none."""

    text: str
    category: str


def load_prompts(source: str, *, size: int, seed: int) -> list[Prompt]:
    """The prompts of ``source``, all different within a scenes set, in a fixed order.

    Args:
        source: "scenes:train", "scenes:held_out", or the path (relative to the working folder)
            of a .txt file with one prompt a line or a .jsonl file with objects
            {"prompt": ..., "category": ...}, category optional. Blank lines are skipped.
        size: number of prompts; of a scenes set only, a file is read whole.
        seed: which prompts; of a scenes set only.

    Raises:
        AdrpoError: an unknown source, a file that is missing, empty or not UTF-8, a line without
            a prompt, or more prompts than the split holds.
    """
    check_source(source)
    if source in SCENES_SETS:
        return _scenes(source, size=size, seed=seed)
    path = Path(source)
    # Not splitlines(): JSON text may hold U+2028 and its like inside a prompt.
    lines = [(n, line) for n, line in enumerate(_read(path).split("\n"), 1) if line.strip()]
    if not lines:
        raise AdrpoError(f"{path}: expected at least one prompt, received an empty file")
    if path.suffix == ".txt":
        return [Prompt(line.strip(), "") for _, line in lines]
    return [_row(line, f"{path}, line {number}") for number, line in lines]


def check_source(source: str) -> str:
    """``source``, if it can name prompts; the file itself is not looked at.

    Raises:
        AdrpoError: neither a scenes set nor a .txt or .jsonl path.
    """
    if source in SCENES_SETS or Path(source).suffix in (".txt", ".jsonl"):
        return source
    near = difflib.get_close_matches(source, SCENES_SETS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise AdrpoError(
        f"expected {', '.join(SCENES_SETS)} or the path of a .txt or .jsonl file, "
        f"received {source!r}{hint}"
    )


def _scenes(source: str, *, size: int, seed: int) -> list[Prompt]:
    try:
        scenes = prompt_set(size, held_out=SCENES_SETS[source], seed=seed)
    except ValueError as error:
        raise AdrpoError(f"{source}: {error}; lower the size") from None
    return [Prompt(caption(scene), scene.category) for scene in scenes]


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise AdrpoError(
            f"{path}, line {line}: expected UTF-8 text, received byte "
            f"0x{error.object[error.start]:02x} at offset {error.start}; save the file as UTF-8"
        ) from None
    except OSError as error:
        raise AdrpoError(f"{path}: expected a file of prompts; {error.strerror}") from None


def _row(line: str, where: str) -> Prompt:
    expected = 'an object with "prompt" and, optionally, "category", both text'
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise AdrpoError(
            f"{where}, column {error.colno}: expected {expected}; received text that "
            f"is not JSON ({error.msg})"
        ) from None
    fields = row if isinstance(row, dict) else {}
    text, category = fields.get("prompt"), fields.get("category", "")
    if not isinstance(text, str) or not text.strip() or not isinstance(category, str):
        raise AdrpoError(f"{where}: expected {expected}, received {line.strip()[:60]}")
    return Prompt(text.strip(), category)

"""A malformed input: a command, how files that it is given are spoilt, and what is to be named."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Spoil = Callable[[], None]
"""Spoils files of the working folder."""


def nothing() -> None:
    """Leave the files as they are."""


@dataclass(frozen=True)
class Case:
    """A command on a copy of the files of a ``domain``.

    ``names`` are the words of which the error must have one; ``spoil`` is called in the copy.
    ``valid`` says why the command may succeed, where it may; an error must be as it ought to be
    there, too.
    """

    kind: str
    domain: str
    what: str
    arguments: Sequence[str]
    names: Sequence[str]
    spoil: Spoil = nothing
    valid: str = ""


def trained(*settings: str, recipe: str = "recipe.yaml") -> list[str]:
    """The command that trains one step."""
    return ["train", recipe, "--output-dir", "new", *settings]


def write(name: str, content: str | bytes) -> Spoil:
    """Write a file, and the folder around it."""

    def act() -> None:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return act


def edited(name: str, **changed: Any) -> Spoil:
    """Set keys of a file of JSON; None takes one out."""

    def act() -> None:
        found = json.loads(Path(name).read_text(encoding="utf-8"))
        for key, value in changed.items():
            *parents, last = key.split("__")
            section = found
            for parent in parents:
                section = section[parent]
            if value is None:
                section.pop(last, None)
            else:
                section[last] = value
        Path(name).write_text(json.dumps(found), encoding="utf-8")

    return act


def both(*spoils: Spoil) -> Spoil:
    """One after the other."""

    def act() -> None:
        for spoil in spoils:
            spoil()

    return act

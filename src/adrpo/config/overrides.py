"""KEY=VALUE: told apart from names on a command line, and put into a configuration."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adrpo.config.documents import parse_yaml, shorten
from adrpo.config.fields import TAGS
from adrpo.config.messages import Location
from adrpo.config.written import todays_name
from adrpo.errors import AdrpoError

_KEY = re.compile(r"\s*\w+(\.\w+)*\s*=")


def names_and_overrides(
    words: Sequence[str], *, expected: str = "a recipe", least: int = 1, most: int | None = 1
) -> tuple[list[str], list[str]]:
    """Names and overrides among the arguments of a command, each in their order.

    A word is an override where a dotted key stands before its first "=", as in
    training.steps=10; so a path with "=" needs a "/" before it: runs/lr=0.1, ./lr=0.1.

    Args:
        words: the arguments, mixed as the user likes.
        expected: what the names stand for, in the words of an error.
        least: how many there must be: 1, or 0 for a command that needs none.
        most: how many there may be; None for as many as the user likes.

    Raises:
        AdrpoError: no name, too many, "=" behind what is no key, or a word that may be an override
            as well as a file or a folder that exists.
    """
    names, overrides = [], []
    for word in words:
        if not _KEY.match(word):
            if word.startswith("="):
                raise AdrpoError(f"expected KEY=VALUE, as training.steps=10; received {word!r}")
            names.append(word)
        elif Path(word).exists():
            raise AdrpoError(
                f"expected KEY=VALUE or {expected}; received {word!r}, which is also a path that "
                f"exists; name that as ./{word}"
            )
        else:
            overrides.append(word)
    if len(names) < least:
        beside = f" beside {' '.join(overrides)}" if overrides else ""
        raise AdrpoError(f"expected {expected}; received none{beside}")
    if most is not None and len(names) > most:
        raise AdrpoError(
            f"expected {expected if most else 'settings only'}; received "
            f"{' and '.join(map(repr, names))}; a setting is written KEY=VALUE, without spaces"
        )
    return names, overrides


def apply_overrides(
    data: dict[str, Any],
    overrides: Sequence[str],
    file: str,
    origins: dict[Location, str],
    domain: str,
) -> None:
    """Set each "section.key=value" in ``data``, a configuration of ``domain`` read from ``file``.

    What set the key at a location is put into ``origins``.
    """
    # A method clears its section: whatever else is set comes after it, in whichever order typed.
    for override in sorted(overrides, key=_order):
        _apply(data, override, file, origins, domain)


def _apply(
    data: dict[str, Any], override: str, file: str, origins: dict[Location, str], domain: str
) -> None:
    """Set one "section.key=value" in ``data``."""
    where = f"{file}, override {override}"
    key, equals, text = override.partition("=")
    value = parse_yaml(text, where) if equals else None
    key = todays_name(domain, key.strip(), value, where)
    *parents, last = key.split(".")
    if not equals or not last:
        raise AdrpoError(f"override {override!r}: expected section.key=value, as training.steps=10")
    target: Any = data
    location: Location = ()
    for part in parents:
        location = (*location, _step(target, part, location, where))
        if isinstance(target, dict) and part not in target:
            # A section that does not exist is made, so that the check can name the nearest one.
            target[part] = {}
            origins[location] = where
        target = target[location[-1]]
    last_step = _step(target, last, location, where)
    if last != "options" and isinstance(target, dict) and isinstance(target.get(last), dict):
        raise AdrpoError(f"{where}: {key} is a section; override its keys, as {key}.KEY=VALUE")
    if last in TAGS and isinstance(target, dict) and value != target.get(last):
        target.clear()
    target[last_step] = value
    origins[(*location, last_step)] = where


def _order(override: str) -> int:
    """The place of an override among those that choose a form, the outer section's first."""
    key = override.partition("=")[0].strip().rpartition(".")[2]
    return TAGS.index(key) if key in TAGS else len(TAGS)


def _step(target: Any, part: str, location: Location, where: str) -> str | int:
    """``part`` as a key or an index of ``target``, which lies at ``location``."""
    if isinstance(target, dict):
        return part
    above = ".".join(str(step) for step in location)
    if not isinstance(target, list):
        raise AdrpoError(f"{where}: {above} has no keys, it is {shorten(target)}")
    if not part.isdecimal() or int(part) >= len(target):
        raise AdrpoError(
            f"{where}: {above}: expected an index from 0 to {len(target) - 1}, received {part!r}"
        )
    return int(part)

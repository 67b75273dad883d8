"""YAML text to mappings and back, stricter than YAML: keys are text and appear once."""

from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from adrpo.errors import AdrpoError

LARGEST = 4_000_000
"""Characters of a text; more is no configuration."""

DEEPEST = 60
"""Sections within sections; the libraries that check them call themselves for each."""

MOST = 20_000
"""Values of a text, those that an alias repeats counted each time: a few lines can stand for more
than a memory holds."""

LARGEST_NUMBER = 10**300


class _Loader(yaml.SafeLoader):
    """The safe loader, which otherwise keeps the last of two equal keys without a word, repeats
    aliases without bound, and lets errors of what it calls through."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = self._values = 0
        self._held: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            node = super().compose_node(parent, index)
            if id(node) not in self._held:
                raise _refusal(f"*{event.anchor} stands within what it names", event)
            self._count(self._held[id(node)], event)
            return node
        before = self._values
        self._depth += 1
        if self._depth > DEEPEST:
            raise _refusal(f"expected at most {DEEPEST} sections within each other", event)
        self._count(1, event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        self._held[id(node)] = self._values - before
        return node

    def _count(self, values: int, event: Any) -> None:
        self._values += values
        if self._values > MOST:
            raise _refusal(f"expected at most {MOST} values, with each alias written out", event)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, TypeError, ValueError) as error:
            kind = node.tag.rpartition(":")[2]
            raise _refusal(f"received a value that is no {kind} ({error})", node) from None

    def construct_yaml_int(self, node: Any) -> Any:
        if ":" in node.value:  # YAML 1.1 has numbers to the base 60, which nobody means
            return self.construct_scalar(node)
        number = super().construct_yaml_int(node)
        if abs(number) > LARGEST_NUMBER:
            raise _refusal("received a number of more than 300 digits", node)
        return number

    def construct_yaml_float(self, node: Any) -> Any:
        return (
            self.construct_scalar(node) if ":" in node.value else super().construct_yaml_float(node)
        )

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    problem=f"expected text as a key, received {key!r}",
                    problem_mark=key_node.start_mark,
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"key {key!r} appears twice (first on line {seen[key]})",
                    problem_mark=key_node.start_mark,
                )
            seen[key] = line
        return super().construct_mapping(node, deep)


def _refusal(problem: str, place: Any) -> yaml.MarkedYAMLError:
    """The error of what begins at ``place``, a node or an event."""
    return yaml.constructor.ConstructorError(problem=problem, problem_mark=place.start_mark)


for _kind in ("int", "float"):
    _Loader.add_constructor(
        f"tag:yaml.org,2002:{_kind}", getattr(_Loader, f"construct_yaml_{_kind}")
    )


class _Dumper(yaml.SafeDumper):
    """One key a line, but a list of plain values on one line."""


def _represent_list(dumper: yaml.SafeDumper, data: list[Any]) -> yaml.Node:
    plain = not any(isinstance(item, (list, dict)) for item in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=plain)


def _represent_text(dumper: yaml.SafeDumper, data: str) -> yaml.Node:
    # YAML folds these three as line breaks, and PyYAML escapes them between double quotes only.
    style = '"' if any(mark in data for mark in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(str, _represent_text)


@lru_cache(maxsize=32)
def _parsed(text: str) -> Any:
    """A command reads the same few texts, its recipe's and its run's, again and again."""
    # The loader derives from SafeLoader: it builds plain values only.
    return yaml.load(text, Loader=_Loader)


def parse_yaml(text: str, where: str) -> Any:
    """The value of ``text``.

    Raises:
        AdrpoError: text that is not YAML, a key that is no text or appears twice. The line
            starts with ``where``, then line and column (from 1).
    """
    if len(text) > LARGEST:
        raise AdrpoError(
            f"{where}: expected a configuration; received {len(text)} characters; name another file"
        )
    try:
        return deepcopy(_parsed(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = " ".join(f"{error.context or ''} {error.problem or ''}".split())
        raise AdrpoError(f"{where}{place}: expected YAML; {problem}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise AdrpoError(
            f"{where}, line {line}: expected YAML; the character {error.character!r} "
            "is not allowed, remove it"
        ) from None


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in the file ``path``; AdrpoError where there is none."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AdrpoError(
            f"{path}: expected UTF-8 text, received byte 0x{error.object[error.start]:02x} at "
            f"offset {error.start}; save the file as UTF-8"
        ) from None
    except OSError as error:
        raise AdrpoError(f"{path}: expected a readable file; {error.strerror}") from None
    data = parse_yaml(text, str(path))
    if data is None:
        raise AdrpoError(f"{path}: expected sections such as 'training:', received an empty file")
    if not isinstance(data, dict):
        raise AdrpoError(
            f"{path}: expected sections such as 'training:', received {type(data).__name__} "
            f"{shorten(data)}"
        )
    return data


def dump_yaml(data: dict[str, Any]) -> str:
    """The mapping ``data`` as YAML, in its own order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def shorten(value: Any, limit: int = 60) -> str:
    """A value as ``repr`` has it, on one line, cut where it would bury the message."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"

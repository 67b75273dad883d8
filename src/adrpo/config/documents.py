"""YAML text to mappings and back, stricter than YAML: keys are text and appear once."""

from pathlib import Path
from typing import Any

import yaml

from adrpo.errors import AdrpoError


class _Loader(yaml.SafeLoader):
    """The safe loader, which otherwise keeps the last of two equal keys without a word."""

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


def parse_yaml(text: str, where: str) -> Any:
    """The value of ``text``.

    Raises:
        AdrpoError: text that is not YAML, a key that is no text or appears twice. The line
            starts with ``where``, then line and column (from 1).
    """
    try:
        # The loader derives from SafeLoader: it builds plain values only.
        return yaml.load(text, Loader=_Loader)
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

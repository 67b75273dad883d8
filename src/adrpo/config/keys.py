"""Every key of a configuration with its default and meaning, as Markdown (docs/settings.md)."""

import json
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from adrpo.config.language import LanguageConfig
from adrpo.config.schema import FlowConfig

DOMAINS: dict[str, type[BaseModel]] = {"flow": FlowConfig, "llm": LanguageConfig}

HEAD = """\
# Settings

Every key of a recipe, with the default of a key that the recipe leaves out; recipes state their own
values. "Paper" is arXiv 2510.18053, "ours" what it leaves open. On the command line:
`adrpo train RECIPE section.key=value`. This page is what `adrpo recipes keys` prints.
"""


def keys_page() -> str:
    """The page: a chapter for each domain, a table for each section and each form of one."""
    parts = [HEAD]
    for domain, form in DOMAINS.items():
        parts.append(f"## Domain `{domain}`\n")
        for title, section in _sections(form):
            parts.append(f"### `{title}`\n\n{(section.__doc__ or '').split(chr(10))[0]}\n")
            parts.append(_table(section))
    return "\n".join(parts)


def _sections(form: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Title and class of each section, in the order of a recipe, those of a section after it."""
    for name, field in form.model_fields.items():
        yield from _nested(name, field)


def _nested(title: str, field: FieldInfo) -> Iterator[tuple[str, type[BaseModel]]]:
    forms = _forms(field.annotation)
    for section in forms:
        method = section.model_fields.get("method") if len(forms) > 1 else None
        (name,) = get_args(method.annotation) if method is not None else (None,)
        yield title if name is None else f"{title}` with `method: {name}", section
        for name, inner in section.model_fields.items():
            yield from _nested(f"{title}.{name}", inner)


def _forms(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a field may hold, its list's entries included."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Literal:
        return []
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        arguments = arguments[:1]
    return [form for argument in arguments for form in _forms(argument)]


def _table(section: type[BaseModel]) -> str:
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, field in section.model_fields.items():
        if _forms(field.annotation):
            continue
        cells = (f"`{name}`", _values(field.annotation), _default(field), field.description or "")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _values(annotation: Any) -> str:
    """What a key takes, in a word."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return ", ".join(dict.fromkeys(_values(argument) for argument in arguments))
    if origin is tuple and len(arguments) == 2 and arguments[1] is not Ellipsis:
        return "[low, high]"
    words = {
        bool: "true, false", int: "integer", float: "number", str: "text", type(None): "null",
        tuple: "list", list: "list", dict: "mapping",
    }  # fmt: skip
    return words.get(origin or annotation, "value")


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    return f"`{json.dumps(value)}`"

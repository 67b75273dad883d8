"""Every key of a configuration with its default and meaning, in Markdown.

docs/reference/settings.md is what this module writes.
"""

import json
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from adrpo.config.fields import sections_in
from adrpo.config.loading import DOMAINS
from adrpo.config.messages import method_of

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
    forms = sections_in(field.annotation)
    for section in forms:
        several = len(forms) > 1
        yield f"{title}` with `method: {method_of(section)}" if several else title, section
        for name, inner in section.model_fields.items():
            yield from _nested(f"{title}.{name}", inner)


def _table(section: type[BaseModel]) -> str:
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, field in section.model_fields.items():
        if sections_in(field.annotation):
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

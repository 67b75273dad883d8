"""Every key of a configuration with its default and meaning, in Markdown.

docs/reference/settings.md is what this module writes.
"""

import json
from collections.abc import Iterator
from inspect import getdoc
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from adrpo.config.domains import DOMAINS, form_of
from adrpo.config.fields import sections_in, tag_key, tag_of
from adrpo.config.llm_options import HELP, TrainerOptions

HEAD = """\
# Settings

Every key of a recipe, with the default of a key that the recipe leaves out; recipes state their own
values. "Paper" is arXiv 2510.18053, "ours" what it leaves open. On the command line:
`adrpo train RECIPE section.key=value`. This page is what `adrpo recipes keys` prints.
"""


def keys_page() -> str:
    """The page: a chapter for each domain, a table for each section and each form of one."""
    parts = [HEAD]
    for domain in DOMAINS:
        parts.append(f"## Domain `{domain}`\n")
        shown: dict[type[BaseModel], str] = {}
        for name, field in form_of(domain).model_fields.items():
            parts += _tables(name, field, shown)
    return "\n".join(parts)


def options_table() -> str:
    """The options that ``adrpo.llm.ADRPOConfig`` adds to TRL's, as docs/use/llm.md has them."""
    lines = ["| option | value | default | meaning |", "|---|---|---|---|"]
    for name, meaning in HELP.items():
        field = TrainerOptions.model_fields[name]
        default = f'"{field.default}"' if isinstance(field.default, str) else field.default
        values = _values(field.annotation).replace("null", "None")
        values = values.replace("true, false", "True, False")
        lines.append(_row(f"`{name}`", values, f"`{default}`", meaning))
    return "\n".join(lines) + "\n"


def _tables(title: str, field: FieldInfo, shown: dict[type[BaseModel], str]) -> Iterator[str]:
    """The table of the section that ``field`` is, then those of the sections in it.

    A form of a section that several places have is in ``shown``, with its first place, from then
    on; another place names that one.
    """
    forms, default = sections_in(field.annotation), field.get_default(call_default_factory=True)
    if several := [form for form in forms if len(forms) > 1 and form in shown]:
        first = shown[several[0]]
        if first != title:
            names = ", ".join(f"`{tag_of(form)}`" for form in forms)
            yield f"### `{title}`\n\n{field.description} One of {names}, as in `{first}`.\n"
        return
    for section in forms:
        shown.setdefault(section, title)
        several = len(forms) > 1
        heading = f"{title}` with `{tag_key(section)}: {tag_of(section)}" if several else title
        words = [(getdoc(section) or "").split("\n")[0], field.description]
        yield f"### `{heading}`\n\n{' '.join(filter(None, words))}\n"
        yield _table(section, default if isinstance(default, section) else None)
        for name, inner in section.model_fields.items():
            yield from _tables(f"{title}.{name}", inner, shown)


def _table(section: type[BaseModel], defaults: BaseModel | None) -> str:
    """The keys of ``section``, with the values that a configuration without it has, if any."""
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, field in section.model_fields.items():
        if sections_in(field.annotation):
            continue
        default = _default(field) if defaults is None else _code(getattr(defaults, name))
        lines.append(_row(f"`{name}`", _values(field.annotation), default, field.description or ""))
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _values(annotation: Any) -> str:
    """Kind of value that a key takes, in a word."""
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
    return "required" if value is PydanticUndefined else _code(value)


def _code(value: Any) -> str:
    return f"`{json.dumps(value)}`"

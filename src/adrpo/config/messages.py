"""Messages of errors: where a value stands, under which key, what was expected, what received."""

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from adrpo.config.documents import shorten
from adrpo.config.fields import CONFLICT, REFUSAL, TAGS, sections_in, tag_key, tag_of
from adrpo.config.names import leaves

Location = tuple[str | int, ...]

ELSEWHERE = {"report_to": "trackers", "log_with": "trackers"}
"""Keys of TRL and accelerate -> what is called otherwise here."""

_NO_FORM = ("union_tag_invalid", "union_tag_not_found")

_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "a number > {gt:g}",
    "greater_than_equal": "a number >= {ge:g}",
    "int_type": "a whole number",
    "invalid-json-value": "text, a number, true, false, null, a list or a mapping",
    "list_type": "a list",
    "literal_error": "{expected}",
    "model_type": "a section (keys and values)",
    "string_too_short": "text that is not empty",
    "string_type": "text",
    "too_long": "a list of at most {max_length}",
    "tuple_type": "a list",
}


def describe(
    error: ValidationError,
    origins: Mapping[Location, str],
    where: str,
    form: type[BaseModel],
) -> str:
    """The first error of ``error`` in one line, and how many more there are.

    Args:
        error: raised by ``form``.
        origins: which file or override set the key at each location.
        where: the file to name for a key that none of them set.
        form: the class of the configuration, whose keys are named.
    """
    details = error.errors(include_url=False)
    first = details[0]
    location = _keys_of(first["loc"], form)
    if first["type"] in _NO_FORM:
        location = (*location, tag_key(_forms_at(form, first["loc"])[0]))
    line = f"{_origin(location, origins, where)}: {_sentence(first, form)}"
    more = len(details) - 1
    return f"{line} (and {more} more)" if more else line


def _origin(location: Location, origins: Mapping[Location, str], where: str) -> str:
    for end in range(len(location), 0, -1):
        if location[:end] in origins:
            return origins[location[:end]]
    return where


def _keys_of(location: Location, form: type[BaseModel]) -> Location:
    """``location`` as the file has it: without the method or schedule that pydantic puts behind a
    section that has several forms."""
    keys: list[str | int] = []
    forms = [form]
    for part in location:
        if len(forms) > 1:
            forms = [one for one in forms if tag_of(one) == part]
            continue
        keys.append(part)
        # An index stays among the forms of its list.
        if not isinstance(part, int):
            forms = _forms_of(forms[0], part) if forms else []
    return tuple(keys)


def _dotted(location: Location, form: type[BaseModel]) -> str:
    return ".".join(str(part) for part in _keys_of(location, form))


def _sentence(error: ErrorDetails, form: type[BaseModel]) -> str:
    location, kind, value = error["loc"], error["type"], error["input"]
    key, received = _dotted(location, form), shorten(value)
    if kind == CONFLICT:
        return ".".join(filter(None, (key, error["msg"])))
    if kind == REFUSAL:
        return f"{key}: {error['msg']}"
    if kind in _NO_FORM:
        return _unknown_form(key, value, _forms_at(form, location))
    if kind == "extra_forbidden":
        return f"{key}: unknown key (received {received}); {_nearest(location, form)}"
    if kind == "missing":
        return f"{key}: expected a value, received none in {received}"
    expected = _EXPECTED.get(kind)
    if expected is None:
        return f"{key}: {error['msg']}, received {received}"
    return f"{key}: expected {expected.format(**error.get('ctx', {}))}, received {received}"


def _unknown_form(key: str, section: Any, forms: list[type[BaseModel]]) -> str:
    if not isinstance(section, dict):
        return f"{key}: expected a section (keys and values), received {shorten(section)}"
    tag = tag_key(forms[0])
    received = section.get(tag)
    names = [tag_of(one) for one in forms]
    near = difflib.get_close_matches(str(received), names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known {tag}s: {', '.join(names)}"
    return f"{key}.{tag}: expected the name of a {tag}, received {shorten(received)}; {hint}"


def _nearest(location: Location, form: type[BaseModel]) -> str:
    """Suggestion of the key that the unknown one at ``location`` may have meant."""
    *section, unknown = location
    keys, paths = _keys(form, tuple(section)), leaves(form)
    if _dotted(location, form) in paths:
        several = next(tag for tag in TAGS if tag in keys)
        return f"another {several} has it; known keys: {', '.join(keys)}"
    if str(unknown) in ELSEWHERE:
        return f"it is called {ELSEWHERE[str(unknown)]!r} here"
    near = difflib.get_close_matches(str(unknown), keys, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    elsewhere = [path for path in paths if path.rpartition(".")[2] == unknown]
    if elsewhere:
        return f"did you mean {' or '.join(map(repr, elsewhere))}?"
    return f"known keys: {', '.join(keys)}"


def _forms_of(form: type[BaseModel], key: str) -> list[type[BaseModel]]:
    """The forms that the section ``key`` of ``form`` may have."""
    field = form.model_fields.get(key)
    return [] if field is None else sections_in(field.annotation)


def _forms_at(form: type[BaseModel], location: Location) -> list[type[BaseModel]]:
    """The forms of the section at ``location``, which has the tags of those above it."""
    forms = [form]
    for part in location:
        if isinstance(part, int):
            continue
        if len(forms) > 1:
            forms = [one for one in forms if tag_of(one) == part]
        else:
            forms = _forms_of(forms[0], part) if forms else []
    return forms


def _keys(model: type[BaseModel], section: Location) -> list[str]:
    return list(_forms_at(model, section)[0].model_fields)

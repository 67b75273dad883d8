"""Settings as earlier versions wrote them: keys under the names they had, or not there yet."""

import warnings
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from adrpo.config.domains import form_of
from adrpo.config.fields import sections_in, tag_key, tag_of
from adrpo.errors import AdrpoError, AdrpoWarning


def todays_name(domain: str, key: str, value: Any, where: str) -> str:
    """The name of the dotted ``key`` of an override with ``value``; an old one is told of, and
    ``where`` it is."""
    renamed = form_of(domain).renamed.get(key)
    if renamed is None or renamed.method is not None or not isinstance(value, renamed.values):
        return key
    _tell(where, key, renamed.name)
    return renamed.name


def under_todays_names(
    content: Mapping[str, Any], domain: str, where: str, *, told: bool = True
) -> dict[str, Any]:
    """The content of a file, with old names of keys replaced by today's.

    Args:
        content: sections and keys, not necessarily all; it stays as it is.
        domain: the domain whose names are meant.
        where: the file.
        told: whether a warning tells of each old name.

    Raises:
        AdrpoError: a key under its old name and under today's.
    """
    renamed = dict(content)
    for old, (new, values, method) in form_of(domain).renamed.items():
        (section, _, before), (_, _, after) = old.rpartition("."), new.rpartition(".")
        keys = renamed.get(section)
        if not isinstance(keys, Mapping) or not isinstance(keys.get(before), values):
            continue
        if method is not None and keys.get("method") != method:
            continue
        if after in keys:
            raise AdrpoError(
                f"{where}: {old}: expected it once, received it as {new}, too, which is its name "
                f"today; remove {old}"
            )
        if told:
            _tell(where, old, new)
        renamed[section] = {after if key == before else key: keys[key] for key in keys}
    return renamed


def completed(form: type[BaseModel], content: Mapping[str, Any]) -> dict[str, Any]:
    """``content`` of a section, or of a whole configuration, with the default of each key that it
    lacks, in the order of ``form``; as JSON values, and unchecked."""
    whole: dict[str, Any] = {}
    for key, field in form.model_fields.items():
        if key in content:
            whole[key] = _completed_value(sections_in(field.annotation), content[key])
        elif not field.is_required():
            whole[key] = to_jsonable_python(field.get_default(call_default_factory=True))
    return whole | {key: content[key] for key in content if key not in whole}


def _completed_value(forms: list[type[BaseModel]], value: Any) -> Any:
    if not forms:
        return value
    if isinstance(value, list):
        return [_completed_value(forms, item) for item in value]
    if not isinstance(value, Mapping):  # null in the place of a section
        return value
    named = value.get(tag_key(forms[0])) if len(forms) > 1 else None
    chosen = (form for form in forms if len(forms) == 1 or tag_of(form) == named)
    return completed(next(chosen, forms[0]), value)


def _tell(where: str, old: str, new: str) -> None:
    # Python prints the same words once only.
    warnings.warn(
        f"{where}: {old} is called {new} now; it is read as that", AdrpoWarning, stacklevel=3
    )

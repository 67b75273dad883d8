"""Types of fields and errors of checks, of which the sections of a configuration are made."""

import types
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

REFUSAL = "refusal"
"""Error type of a value that a check of its own refuses."""
CONFLICT = "conflict"
"""Error type of values that exclude each other within a section."""


def refusal(text: str) -> PydanticCustomError:
    """The error of one field: "expected ..., received ..."."""
    return PydanticCustomError(REFUSAL, "{text}", {"text": text})


def conflict(text: str) -> PydanticCustomError:
    """The error of a section; ``text`` starts with the key to change: "key: expected ..."."""
    return PydanticCustomError(CONFLICT, "{text}", {"text": text})


def _refuse_boolean(value: Any) -> Any:
    # pydantic reads `true` as 1.0, but stays useful otherwise: YAML 1.1 gives 1e-3 as text.
    if isinstance(value, bool):
        raise PydanticCustomError("float_type", "expected a number")
    return value


def refuse_empty(value: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return ``value``, if it has entries."""
    # Not a bound of the field: pydantic would count an entry that fails as missing, too.
    if not value:
        raise refusal("expected a list of at least one entry, received []")
    return value


Count = Annotated[int, Field(strict=True, gt=0, lt=2**31)]
"""A number of things; more than 32 bits count is a slip, and would be work without end."""
NonNegativeCount = Annotated[int, Field(strict=True, ge=0)]
Number = Annotated[float, BeforeValidator(_refuse_boolean)]
PositiveNumber = Annotated[float, Field(gt=0), BeforeValidator(_refuse_boolean)]
NonNegativeNumber = Annotated[float, Field(ge=0), BeforeValidator(_refuse_boolean)]
GuidanceScale = Annotated[float, Field(ge=1), BeforeValidator(_refuse_boolean)]
Switch = Annotated[bool, Field(strict=True)]
Text = Annotated[str, StringConstraints(min_length=1)]


Share = Annotated[float, Field(gt=0, le=1)]
Dtype = Literal["float32", "bfloat16", "float16"]


class Section(BaseModel):
    """Base of every section: immutable, closed to unknown keys, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Renamed(NamedTuple):
    """Today's dotted name of a key, in the same section, and the types of the values it had.

    By these the old key is told from another one that has its name today.
    """

    name: str
    values: tuple[type, ...]
    method: str | None = None
    """The method whose section had it, if other methods have that key today."""


def with_default(section: type[Section], key: str, default: Any) -> Any:
    """The field ``key`` of ``section`` in a section that extends it: described there, with another
    default here."""
    return Field(default=default, description=section.model_fields[key].description)


TAGS = ("method", "schedule")
"""Keys that tell the forms of a section apart."""


def tag_of(form: type[BaseModel]) -> str:
    """The value by which one of several forms of a section is chosen, that of its key in TAGS."""
    return get_args(form.model_fields[tag_key(form)].annotation)[0]


def tag_key(form: type[BaseModel]) -> str:
    """The key in TAGS that one of several forms of a section has."""
    return next(key for key in TAGS if key in form.model_fields)


def sections_in(annotation: Any) -> list[type[BaseModel]]:
    """The sections that an annotation holds, itself or as members."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (tuple, Union, types.UnionType, Annotated):
        return [section for part in get_args(annotation) for section in sections_in(part)]
    return []

"""The recipe that a run began from, found by its words, and what the run changed of it."""

import json
from dataclasses import dataclass
from typing import Any

from adrpo.config import find_recipe, load_recipe, recipe_names
from adrpo.config.documents import read_mapping
from adrpo.config.domains import form_of
from adrpo.errors import AdrpoError
from adrpo.runs.directory import RunDirectory
from adrpo.runs.resuming import flatten, settings_of

WORDS = frozenset({"description", "source"})


@dataclass(frozen=True)
class Changes:
    """Settings of a run beside those of a recipe, or where none is known, of the defaults."""

    recipe: str
    """The recipe's name; empty where the defaults take its place."""
    keys: list[tuple[str, str, str]]
    """(key, the run's value, the recipe's), where the two differ."""


def changes(run: RunDirectory) -> Changes:
    """The settings in which ``run`` differs from the recipe of its description, as it is today.

    A recipe that a user copied and changed keeps the description; one of another description is
    held against the defaults of its domain. Raises AdrpoError where the run's configuration can't
    be read.
    """
    ours = settings_of(run)
    domain = str(ours.get("domain"))
    name = _recipe_of(domain, str(ours.get("description") or ""))
    form: Any = form_of(domain)
    theirs = load_recipe(name) if name else form()
    flat = flatten(theirs.model_dump(mode="json"))
    return Changes(
        recipe=name,
        keys=[
            (key, _text(ours, key), _text(flat, key))
            for key in [*flat, *(key for key in ours if key not in flat)]
            if key not in WORDS and ours.get(key) != flat.get(key)
        ],
    )


def described(run: RunDirectory) -> str:
    """The description of ``run``; of one on another model than its recipe's, which the description
    may name, the recipe and the model."""
    try:
        found = changes(run)
    except AdrpoError:  # of another version: what it says itself
        return str(run.read_settings().get("description") or "")
    model = next((ours for key, ours, _ in found.keys if key == "model.pretrained"), "")
    if found.recipe and model:
        return f"By the recipe {found.recipe}, on {model}"
    return str(run.read_settings().get("description") or "")


def _recipe_of(domain: str, description: str) -> str:
    """The recipe with this ``description``; empty where there is none."""
    if not description:
        return ""
    for name in recipe_names():
        if name.split("/")[0] == domain:
            words = read_mapping(find_recipe(name)).get("description")
            if words is not None and str(words).split() == description.split():
                return name
    return ""


def _text(settings: dict[str, Any], key: str) -> str:
    """A value as a reader has it; a dash for a key that one of the two lacks."""
    if key not in settings:
        return "–"
    value = settings[key]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

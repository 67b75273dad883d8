"""What every domain is: a package with a door, a configuration, and a recipe."""

import importlib
from pathlib import Path

import pytest

import adrpo
from adrpo.cli.domains import door_named, missing_packages
from adrpo.config import DOMAINS, Configuration, form_of, load_recipe, recipe_names
from adrpo.evaluation.door import Door
from adrpo.runs.facts import Facts

PACKAGE = Path(adrpo.__file__).parent
MEMBERS = sorted({*Door.__annotations__, *(name for name in vars(Door) if name[0] != "_")})


def test_the_list_of_domains_is_that_of_the_packages_with_a_door():
    assert set(DOMAINS) == {path.parent.name for path in PACKAGE.glob("*/domain.py")}


@pytest.mark.parametrize("domain", DOMAINS)
def test_its_door_answers_all_that_a_command_asks(domain: str):
    assert {"build", "check", "facts", "sample", "subject"} <= set(MEMBERS)
    door = door_named(domain)
    assert [name for name in MEMBERS if not hasattr(door, name)] == []
    assert isinstance(door.facts, Facts) and door.facts.domain == domain
    # What it needs beside adrpo can be told without loading it.
    assert missing_packages(door) == [] or door.extra
    assert importlib.import_module(f"adrpo.{domain}").__doc__


@pytest.mark.parametrize("domain", DOMAINS)
def test_its_configuration_has_defaults_and_a_recipe(domain: str):
    form = form_of(domain)
    assert issubclass(form, Configuration)
    config = form()  # type: ignore[call-arg]
    assert config.domain == domain
    for key in door_named(domain).facts.machine_keys:
        section, _, name = key.partition(".")
        assert hasattr(getattr(config, section), name), key
    recipes = [name for name in recipe_names() if name.startswith(f"{domain}/")]
    assert recipes
    assert {type(load_recipe(name)) for name in recipes} == {form}

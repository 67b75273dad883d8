"""Loading of a configuration: a file and overrides become checked values, and YAML again."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from pydantic import ValidationError

from adrpo.config.documents import dump_yaml, read_mapping, shorten
from adrpo.config.domains import DOMAIN, DOMAINS, domain_of, form_of
from adrpo.config.fields import TAGS
from adrpo.config.flow import FlowConfig
from adrpo.config.messages import Location, describe
from adrpo.config.overrides import apply_overrides
from adrpo.config.places import note_place
from adrpo.config.recipes import SUFFIXES, find_recipe
from adrpo.config.shared import Configuration
from adrpo.config.written import completed, under_todays_names
from adrpo.errors import AdrpoError

EXTENDS = "extends"
MOST = 100
"""Recipes that may extend each other in a row."""
Config = TypeVar("Config", bound=Configuration)


@overload
def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Configuration: ...
@overload
def load_recipe(
    path: str | Path, overrides: Sequence[str] = (), *, form: type[Config]
) -> Config: ...
def load_recipe(
    path: str | Path, overrides: Sequence[str] = (), *, form: type[Configuration] | None = None
) -> Configuration:
    """Read, complete and check a configuration.

    Args:
        path: a recipe's name ("flow/adrpo") or the path of a YAML file. A file may say
            ``extends: NAME`` (or a .yaml path relative to itself): it then holds only what
            differs. Sections are merged key by key, lists are replaced, and a section that
            names another ``method`` than the one it extends starts from that method's defaults.
        overrides: "section.key=value", the value as YAML; an entry of a list by its index,
            from 0: "reward.0.weight=2".
        form: the class that is expected, as ``FlowConfig``; None takes that of any domain.

    Returns:
        The configuration of its ``domain`` (flow where it names none), every key resolved.

    Raises:
        AdrpoError: whatever is wrong, in one line: file (or override), key, value received,
            what was expected, and for an unknown key the nearest known one.
    """
    file = find_recipe(path)
    origins: dict[Location, str] = {}
    layers = _layers(file, ())
    found: Any = _form_of(layers)
    if form not in (None, found):
        raise AdrpoError(
            f"{file}: expected a configuration of the domain {domain_of(form)}, received one of "
            f"{domain_of(found)}; read it by load_recipe, train it by `adrpo train`"
        )
    data = found().model_dump(mode="json")
    for layer, content in layers:
        named = under_todays_names(content, domain_of(found), str(layer))
        _merge(data, named, (), str(layer), origins)
    return _checked(found, data, overrides, str(file), origins)


load_config = load_recipe
"""``load_recipe`` by the name that fits a run's ``config.yaml``, which is no recipe."""


def load_flow_config(path: str | Path, overrides: Sequence[str] = ()) -> FlowConfig:
    """Read a configuration as ``load_recipe`` does; one of another domain is an AdrpoError."""
    return load_recipe(path, overrides, form=FlowConfig)


def default_config(overrides: Sequence[str] = ()) -> FlowConfig:
    """The defaults of a text-to-image configuration with ``overrides``, taken and checked as
    ``load_flow_config`` does."""
    data = FlowConfig().model_dump(mode="json")
    return _checked(FlowConfig, data, overrides, "the defaults", {})


def _checked(
    form: type[Config],
    data: dict[str, Any],
    overrides: Sequence[str],
    file: str,
    origins: dict[Location, str],
) -> Config:
    """``data`` with ``overrides`` as a configuration."""
    apply_overrides(data, overrides, file, origins, domain_of(form))
    try:
        return form.model_validate(data)
    except ValidationError as error:
        raise AdrpoError(describe(error, origins, file, form)) from None


def _form_of(layers: list[tuple[Path, dict[str, Any]]]) -> type[Configuration]:
    """The form that the first layer to name a domain asks for; one form for all layers."""
    named = [(layer, content[DOMAIN]) for layer, content in layers if DOMAIN in content]
    if not named:
        return form_of(next(iter(DOMAINS)))
    for layer, domain in named:
        if not isinstance(domain, str) or domain not in DOMAINS or domain != named[0][1]:
            expected = " or ".join(DOMAINS) if domain == named[0][1] else repr(named[0][1])
            raise AdrpoError(f"{layer}: domain: expected {expected}, received {shorten(domain)}")
    return form_of(named[0][1])


def resolve_settings(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The settings of a run that this version or an earlier one wrote, as today's.

    A key has today's name, and one that was added since has its default, which is what the run
    did without it. So what two runs were given can be compared key by key.

    Args:
        settings: the configuration as the run wrote it; nothing of it is checked.
        where: the file, for errors.

    Returns:
        JSON values, as ``model_dump(mode="json")`` of a configuration.

    Raises:
        AdrpoError: a domain that is not known.
    """
    form = _form_of([(Path(where), dict(settings))])
    return completed(form, under_todays_names(settings, domain_of(form), where, told=False))


def config_to_yaml(config: Configuration) -> str:
    """The whole configuration as YAML; loading it gives an equal configuration."""
    return dump_yaml(config.model_dump(mode="json"))


def _layers(file: Path, seen: tuple[Path, ...]) -> list[tuple[Path, dict[str, Any]]]:
    """``file`` and what it extends, the outermost base first, without the key ``extends``."""
    if file.resolve() in seen:
        raise AdrpoError(
            f"{seen[-1]}: extends: expected a recipe that does not lead back to {file}"
        )
    if len(seen) > MOST:
        raise AdrpoError(
            f"{seen[0]}: extends: expected at most {MOST} recipes above another, received more; "
            f"put them into one"
        )
    try:
        content = read_mapping(file)
    except AdrpoError as error:
        raise AdrpoError(f"{seen[-1]}: extends: {error}" if seen else str(error)) from None
    note_place(file.parent)
    if EXTENDS not in content:
        return [(file, content)]
    base = content.pop(EXTENDS)
    if not isinstance(base, str):
        raise AdrpoError(
            f"{file}: extends: expected a recipe's name or a .yaml path, received {shorten(base)}"
        )
    try:
        found = find_recipe(file.parent / base if base.endswith(SUFFIXES) else base)
    except AdrpoError as error:
        raise AdrpoError(f"{file}: extends: {error}") from None
    except OSError as error:  # a name that no file can have
        raise AdrpoError(f"{file}: extends: {shorten(base)}: {error.strerror}") from None
    return [*_layers(found, (*seen, file.resolve())), (file, content)]


def _merge(
    data: dict[str, Any],
    content: dict[str, Any],
    location: Location,
    origin: str,
    origins: dict[Location, str],
) -> None:
    for key, value in content.items():
        here = (*location, key)
        origins[here] = origin
        if isinstance(value, dict) and isinstance(data.get(key), dict):
            if any(tag in value and value[tag] != data[key].get(tag) for tag in TAGS):
                data[key] = {}
            _merge(data[key], value, here, origin, origins)
        else:
            data[key] = copy.deepcopy(value)

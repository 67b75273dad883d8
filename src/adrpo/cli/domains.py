"""The doors of the domains, and what a command finds behind them."""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from adrpo.errors import AdrpoError

if TYPE_CHECKING:
    from adrpo.evaluation.door import Door
    from adrpo.runs.facts import Facts


HEARS = "audio"
"""The domain that the benchmarks are of; they need none of its packages."""


def door_named(domain: str) -> "Door":
    """The door of a domain of ``adrpo.config.DOMAINS``, whether or not its packages are there."""
    return importlib.import_module(f"adrpo.{domain}.domain").DOOR


def all_facts() -> list["Facts"]:
    """The facts of all domains."""
    from adrpo.config import DOMAINS

    return [door_named(domain).facts for domain in DOMAINS]


def benchmarks() -> Any:
    """The published benchmarks, which lie with the domain whose models answer them."""
    return importlib.import_module(f"adrpo.{HEARS}.benchmarks.command")


def missing_packages(door: "Door") -> list[str]:
    """Packages of a domain that cannot be found."""
    return [name for name in door.packages if importlib.util.find_spec(name) is None]


def door_of(config: Any) -> "Door":
    """The door of a configuration's domain.

    Raises AdrpoError where packages that it needs are missing.
    """
    door = door_named(config.domain)
    if missing := missing_packages(door):
        raise AdrpoError(
            f"domain {config.domain}: expected the packages {' and '.join(door.packages)}, of "
            f"which {' and '.join(missing)} cannot be found; install adrpo with its extra: "
            f"pip install '.[{door.extra}]' in the folder of adrpo"
        )
    return door

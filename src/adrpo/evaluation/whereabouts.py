"""Files that a run's settings name by a relative path, from whichever folder they are asked for."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from adrpo.data.prompts import GENERATED, SUMS
from adrpo.data.shipped import SHIPPED
from adrpo.runs.resuming import flatten

SECTIONS = ("model", "prompts", "reward", "evaluation")

NO_PATHS: Collection[str] = {"embedded", "scenes", SUMS, *GENERATED, *SHIPPED}
"""Values that mean the same everywhere, whatever lies in a folder."""

BARE = (
    "model.pretrained",
    "prompts.train",
    "prompts.held_out",
    "prompts.source",
    "evaluation.distances.references",
)
"""Keys whose value may be a folder's name without any mark of a path."""


TEXTS = ("prompts.negative_prompt",)
"""Keys whose value names nothing."""


def from_home(config: Any, home: Path) -> list[str]:
    """Overrides that give ``config`` the absolute paths of what it names relative to ``home``, as
    far as it is there; none where ``home`` is the working folder."""
    if home.resolve() == Path.cwd() or not home.is_dir():
        return []
    settings = config.model_dump(mode="json", include=set(SECTIONS))
    named = {key: value for key, value in flatten(settings).items() if key not in TEXTS}
    found = {key: _absolute(value, home, key) for key, value in named.items()}
    return [f"{key}={json.dumps(value)}" for key, value in found.items() if value != named[key]]


def _absolute(value: Any, home: Path, key: str) -> Any:
    if isinstance(value, dict):
        return {name: _absolute(inner, home, f"{key}.{name}") for name, inner in value.items()}
    if isinstance(value, list):
        return [_absolute(inner, home, key) for inner in value]
    if not isinstance(value, str) or value in NO_PATHS or "\n" in value:
        return value
    # A source may stand between a kind and a half: "drawbench:a.csv:held_out".
    return ":".join(_part(part, home, bare=key in BARE) for part in value.split(":"))


def _part(part: str, home: Path, *, bare: bool) -> str:
    marked = bare or "/" in part or Path(part).suffix
    if not part or not marked or part in NO_PATHS or len(part) > 255 or Path(part).is_absolute():
        return part
    return str(home / part) if (home / part).exists() else part

"""What may differ between a run and its resumption."""

from typing import Any

import yaml

from adrpo.config import FlowConfig
from adrpo.errors import AdrpoError
from adrpo.runs.directory import RunDirectory

MAY_DIFFER: tuple[str, ...] = ("description", "checkpoint.every", "checkpoint.keep")
"""How often a run is saved does not touch its course."""


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flatten(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def check_same_run(run: RunDirectory, config: FlowConfig) -> None:
    """Raise AdrpoError, naming the first key, where ``config`` is not the run's own."""
    theirs = _flatten(yaml.safe_load(run.read_config_yaml()))
    ours = _flatten(config.model_dump(mode="json"))
    may_differ = set(MAY_DIFFER)
    if config.training.learning_rate_schedule == "constant":
        # More steps extend a run; with a rate that falls to the run's end they change all of it.
        may_differ.add("training.steps")
    for key in sorted(theirs.keys() | ours.keys()):
        if key not in may_differ and theirs.get(key) != ours.get(key):
            raise AdrpoError(
                f"--resume: {run.path / 'config.yaml'} has {key}={theirs.get(key)!r}, but this "
                f"call has {ours.get(key)!r}; resume with the run's own settings, or start "
                f"another run with --output-dir"
            )

"""Settings of a run, and which of them may differ when it is resumed."""

from collections.abc import Collection, Mapping
from typing import Any

from adrpo.config import resolve_settings
from adrpo.errors import AdrpoError
from adrpo.runs.directory import RunDirectory

MAY_DIFFER = frozenset({"description", "source", "checkpoint.every", "checkpoint.keep", "trackers"})
"""Words, how often a run is saved, and who hears of it do not touch its course."""


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """A nested mapping as dotted keys; lists stay whole."""
    if not isinstance(value, Mapping) or (prefix and not value):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= flatten(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The nested mapping of dotted keys: what ``flatten`` was given, but for keys with dots."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        section = nested
        for part in parents:
            section = section.setdefault(part, {})
        section[last] = value
    return nested


def settings_of(run: RunDirectory) -> dict[str, Any]:
    """Dotted key -> value of the configuration of ``run``, under today's names of the keys."""
    settings = run.read_settings()
    return flatten(resolve_settings(settings, str(run.config)))


def check_same_run(
    run: RunDirectory, settings: Mapping[str, Any], *, may_differ: Collection[str] = ()
) -> None:
    """Raise AdrpoError, naming the first key, where ``settings`` are not the run's own.

    Args:
        run: the run to be resumed.
        settings: the resolved configuration as JSON values.
        may_differ: dotted keys that may change beside MAY_DIFFER.
    """
    theirs, ours = settings_of(run), flatten(settings)
    for key in sorted((theirs.keys() | ours.keys()) - MAY_DIFFER - set(may_differ)):
        if theirs.get(key) != ours.get(key):
            raise AdrpoError(
                f"--resume: {run.path / 'config.yaml'} has {key}={theirs.get(key)!r}, but this "
                f"call has {ours.get(key)!r}; resume with the run's own settings, or start "
                f"another run with --output-dir"
            )

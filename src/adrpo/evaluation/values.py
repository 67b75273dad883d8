"""Values of an evaluation, sample by sample: their files and what a row says of them."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adrpo.evaluation.statistics import Interval, bootstrap_change, bootstrap_mean
from adrpo.runs.directory import RunDirectory
from adrpo.runs.durable import write_durably

Values = dict[str, NDArray[np.float64]]
"""Metric -> [prompts, K], or [prompts] for one of a group of samples."""


def summarise(
    values: Values, categories: Sequence[str], base: Values | None, *, seed: int
) -> dict[str, Any]:
    """``<metric>``, ``_low``, ``_high``; with ``base`` also the paired ``_change`` of each.

    A prompt with an unscored sample (NaN) leaves that metric, in both evaluations.
    """
    row: dict[str, Any] = {}
    for name, after in values.items():
        before = None if base is None else base.get(name)
        kept = finite_prompts(after, before)
        if not kept.any():
            continue
        names = [category for category, keep in zip(categories, kept, strict=True) if keep]
        row |= _named(name, bootstrap_mean(after[kept], names, seed=seed))
        if before is not None:
            change = bootstrap_change(before[kept], after[kept], names, seed=seed)
            row |= _named(f"{name}_change", change)
        if name == "gold_accuracy":
            for category in sorted(filter(None, set(names))):
                rows = kept & (np.asarray(categories) == category)
                row[f"gold_accuracy_{category}"] = float(after[rows].mean())
    return row


def finite_prompts(
    after: NDArray[np.float64], before: NDArray[np.float64] | None
) -> NDArray[np.bool_]:
    """Which prompts have a value of every sample, on both sides where there are two."""
    stacked = after if before is None else after + before
    finite: NDArray[np.bool_] = np.isfinite(stacked.reshape(len(stacked), -1))
    return np.logical_and.reduce(finite, axis=1)


def _named(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def spread(categories: Sequence[str], count: int) -> list[int]:
    """Indices of ``count`` prompts, the categories in turn, in the prompts' order."""
    queues: dict[str, list[int]] = {}
    for index, category in enumerate(categories):
        queues.setdefault(category, []).append(index)
    turns = [
        index
        for place in range(max(map(len, queues.values())))
        for queue in queues.values()
        for index in queue[place : place + 1]
    ]
    return turns[:count]


def record_prompts(run: RunDirectory, listing: dict[str, Any]) -> None:
    """Add ``listing`` to samples/prompts.json."""
    path = run.samples / "prompts.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, json.dumps(known | listing, ensure_ascii=False, indent=1).encode())


def values_path(run: RunDirectory, step: int, split: str = "unseen") -> Path:
    """Where the values of an evaluation lie: metric -> [prompts][samples]."""
    name = "values.json" if split == "unseen" else f"values-{split}.json"
    return run.samples / f"step-{step:06d}" / name


def plain(column: NDArray[np.float64]) -> list[Any]:
    """``column`` as JSON's lists, every digit kept; what is not finite becomes null."""

    def item(value: Any) -> Any:
        if isinstance(value, list):
            return [item(inner) for inner in value]
        return value if math.isfinite(value) else None

    return item(column.tolist())


def write_values(path: Path, values: Values) -> None:
    """Write values for ``read_values``."""
    table = {name: plain(column) for name, column in values.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table), encoding="utf-8")


def read_values(path: Path) -> Values:
    """The values of an evaluation; an unscored sample is NaN."""
    table = json.loads(path.read_text(encoding="utf-8"))
    return {name: np.asarray(column, dtype=np.float64) for name, column in table.items()}

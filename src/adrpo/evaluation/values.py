"""Values of an evaluation, sample by sample: their files and what a row says of them."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adrpo.evaluation.intervals import Estimate, mean_over_seeds, number, paired_difference
from adrpo.metrics import CHANGE, INTERVAL, UNSEEN, known
from adrpo.runs.directory import RunDirectory
from adrpo.runs.durable import write_durably

Values = dict[str, NDArray[np.float64]]
"""Metric -> [prompts, K], or [prompts] for one of a group of samples."""


def summarise(values: Values, categories: Sequence[str], base: Values | None) -> dict[str, Any]:
    """``<metric>``, ``_low``, ``_high``; with ``base`` also the paired ``_change`` of each.

    A metric that is marked ``by_category`` has the same for each category, as
    ``<metric>_<category>``. A prompt with an unscored sample (NaN) leaves that metric, in both
    evaluations. Where one prompt is left there is no interval: its ends are null.
    """
    row: dict[str, Any] = {}
    names = np.asarray(categories)
    for name, after in values.items():
        before = None if base is None else base.get(name)
        kept = finite_prompts(after, before)
        row |= _columns(name, after, before, names, kept)
        metric = known(name)
        if metric is not None and metric.by_category:
            for category in sorted(filter(None, set(categories))):
                of_category = kept & (names == category)
                row |= _columns(f"{name}_{category}", after, before, names, of_category)
    return row


def _columns(
    name: str,
    after: NDArray[np.float64],
    before: NDArray[np.float64] | None,
    categories: NDArray[np.str_],
    kept: NDArray[np.bool_],
) -> dict[str, float | None]:
    """Columns of a row about the prompts that are ``kept``; none where none is."""
    if not kept.any():
        return {}
    strata = categories[kept].tolist()
    columns = _named(name, mean_over_seeds(after[kept][None], strata))
    if before is not None:
        change = paired_difference(after[kept][None], before[kept][None], strata)
        columns |= _named(f"{name}{CHANGE}", change)
    return columns


def finite_prompts(
    after: NDArray[np.float64], before: NDArray[np.float64] | None
) -> NDArray[np.bool_]:
    """Mask of the prompts with a value of every sample, on both sides where there are two."""
    stacked = after if before is None else after + before
    finite: NDArray[np.bool_] = np.isfinite(stacked.reshape(len(stacked), -1))
    return np.logical_and.reduce(finite, axis=1)


def _named(name: str, estimate: Estimate) -> dict[str, float | None]:
    low, high = (f"{name}{end}" for end in INTERVAL)
    return {name: estimate.mean, low: number(estimate.low), high: number(estimate.high)}


def record_prompts(run: RunDirectory, listing: dict[str, Any]) -> None:
    """Add ``listing`` to samples/prompts.json."""
    path = run.samples / "prompts.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, json.dumps(known | listing, ensure_ascii=False, indent=1).encode())


def values_path(run: RunDirectory, step: int, split: str = UNSEEN) -> Path:
    """The file with the values of an evaluation: metric -> [prompts][samples]."""
    name = "values.json" if split == UNSEEN else f"values-{split}.json"
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

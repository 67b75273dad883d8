"""Best of n: what a reward gains without training, where someone has measured it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adrpo.errors import AdrpoError
from adrpo.evaluation.pareto import best_of_n_kl
from adrpo.evaluation.statistics import Interval, bootstrap_mean

FILE = "best-of-n.json"
SEED = 0


@dataclass(frozen=True)
class BestOfN:
    """Metrics of the samples that a reward selects from n of the base."""

    n: list[int]
    kl: list[float]
    """KL to the base in nats: as measured, ties counted, or else log n - (n - 1)/n."""
    metrics: dict[str, list[Interval]]
    """Metric -> mean and 95 % interval for each n."""


def read_best_of_n(folder: Path) -> BestOfN | None:
    """``best-of-n.json`` of a comparison; None where there is none.

    The file maps "n" to a list, and each metric to one table [prompts][selected samples] for each
    n; "kl", where there is one, is the selection's. A prompt without a value (null) leaves that
    metric; a metric without any prompt is left out.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        counts = [int(n) for n in found["n"]]
        intervals = {
            name: [_interval(table) for table in tables]
            for name, tables in found.items()
            if name != "n" and isinstance(tables, list) and len(tables) == len(counts)
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdrpoError(
            f"{path}: expected 'n' and, for each metric, a table [prompts][samples] for each n; "
            f"received {type(error).__name__}: {error}; remove the file to compare without it"
        ) from None
    # A metric that no prompt has at some n has no line: diversity of right images, without any.
    metrics = {
        name: [interval for interval in row if interval is not None]
        for name, row in intervals.items()
        if None not in row
    }
    measured = metrics.pop("kl", None)
    if measured is None:
        return BestOfN(counts, [best_of_n_kl(n) for n in counts], metrics)
    return BestOfN(counts, [interval.mean for interval in measured], metrics)


def _interval(table: list[list[float | None]]) -> Interval | None:
    values = np.asarray(table, dtype=np.float64)
    values = values.reshape(len(values), -1)
    values = values[np.isfinite(values).all(axis=1)]
    if not len(values):
        return None
    return bootstrap_mean(values, [""] * len(values), seed=SEED)

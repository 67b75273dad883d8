"""The weights that a run keeps: of its last step, or of its best evaluation."""

import math
from collections.abc import Sequence

from adrpo.metrics import UNSEEN, describe, without_ending
from adrpo.runs.directory import Row, RunDirectory


def watched_values(evaluations: Sequence[Row], metric: str) -> list[float]:
    """The values of ``metric`` in rows of one split, turned where less of it is better.

    An evaluation in which no sample has one is worse than every other.
    """
    sign = -1.0 if describe(without_ending(metric)).better == "lower" else 1.0
    values = [row.get(metric) for row in evaluations]
    return [-math.inf if value is None else sign * value for value in values]


def best_place(values: Sequence[float]) -> int:
    """Index of the first of the greatest values."""
    return max(range(len(values)), key=values.__getitem__)


def kept_step(run: RunDirectory, metric: str | None) -> int | None:
    """The step whose weights ``final/`` has.

    Args:
        run: a finished run.
        metric: ``evaluation.early_stopping`` of the run; the step is that of its best evaluation on
            unseen prompts, without it the last one.

    Returns:
        The step, 0 for the untrained weights; None where the run's files no longer tell.
    """
    if metric is None:
        rows = run.read_metrics()
        return rows[-1]["step"] if rows else None
    rows = run.read_evaluations(UNSEEN)
    return rows[best_place(watched_values(rows, metric))]["step"] if rows else None

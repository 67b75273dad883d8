"""Curves of several runs in one chart, each run in its color."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np

from adrpo.metrics import UNSEEN, Metric, describe
from adrpo.report.drawing import SERIES, STYLE, Figure, Line, drawn, line_id, new_axes
from adrpo.report.figures import (
    blocks,
    evaluation_keys,
    intervals,
    start_at,
    step_columns,
    values_of,
)
from adrpo.report.numbers import capital, compact
from adrpo.report.summary import finite

Row = Mapping[str, Any]

LEGENDS = 4
"""Runs up to which each chart has the legend, beside the one above all charts."""


@dataclass(frozen=True)
class Curves:
    """The rows of one run that are drawn, and its color."""

    name: str
    series: int
    """The number of its color, from 1."""
    metrics: Sequence[Row]
    evaluations: Sequence[Row]

    @property
    def color(self) -> str:
        """The stand-in of its color."""
        return SERIES[self.series - 1]


def overlaid(
    runs: Sequence[Curves], first: Sequence[str], terms: Mapping[str, str], domain: str
) -> list[Figure]:
    """The charts of ``runs``: metrics of unseen prompts at their evaluations, with intervals, and
    what their steps logged; of those that at least one has.

    Args:
        runs: in the order of their colors.
        first: metrics in front.
        terms: of the reward, of all runs together.
        domain: of the runs; empty where they are of several.
    """
    figures = [_evaluations(runs, describe(key)) for key in evaluation_keys(first)]
    figures += [_steps(runs, column) for column in step_columns(domain, terms)]
    return [figure for figure in figures if figure is not None]


def _evaluations(runs: Sequence[Curves], metric: Metric) -> Figure | None:
    key, found = metric.name, []
    for run in runs:
        rows = [row for row in run.evaluations if row.get("split") == UNSEEN]
        rows = sorted((r for r in rows if finite(r, key) is not None), key=lambda r: r["step"])
        if rows:
            found.append((run, rows))
    if not found:
        return None
    span = max(row["step"] for _, rows in found for row in rows) or 1
    with mpl.rc_context(STYLE):
        canvas, axes = new_axes(f"evaluation-{key}")
        lines = [
            intervals(
                axes, rows, key, run.color, run.name,
                # A small shift, so that the intervals do not cover each other.
                shift=0.014 * span * (place - (len(found) - 1) / 2),
            )
            for place, (run, rows) in enumerate(found)
        ]  # fmt: skip
        edge = 0.04 + 0.007 * len(found)
        axes.set_xlim(-edge * span, (1 + edge) * span)
        axes.set_xlabel("step")
        told = "; ".join(
            f"{run.name} {compact(rows[-1][key])} at step {rows[-1]['step']}" for run, rows in found
        )
        title = capital(metric.label)
        return drawn(
            canvas, axes, lines, name=f"evaluation-{key}", title=title, note=metric.note,
            alt=f"{title} of unseen prompts: {told}.", legend=_legend([run for run, _ in found]),
        )  # fmt: skip


def _steps(runs: Sequence[Curves], column: Metric) -> Figure | None:
    key = column.name
    found = [
        (run, values)
        for run in runs
        if np.isfinite(values := values_of(run.metrics, key)).any()
    ]  # fmt: skip
    if not found:
        return None
    lines = []
    with mpl.rc_context(STYLE):
        canvas, axes = new_axes(f"curve-{key}")
        for run, values in found:
            steps, line = blocks(values_of(run.metrics, "step")), blocks(values)
            marker = "o" if len(steps) == 1 else None
            axes.plot(
                steps, line, color=run.color, marker=marker, ms=4, lw=1.6, gid=line_id(run.series)
            )
            lines.append(Line(run.name, run.series, steps.tolist(), line.tolist(), raw=True))
        start_at(axes, column)
        axes.set_xlabel("step")
        told = "; ".join(
            f"{run.name} {compact(values[np.isfinite(values)][-1])}" for run, values in found
        )
        return drawn(
            canvas, axes, lines, name=f"curve-{key}", title=column.label, note=column.note,
            alt=f"{column.label} at the last step: {told}.",
            legend=_legend([run for run, _ in found]),
        )  # fmt: skip


def _legend(runs: Sequence[Curves]) -> list[tuple[str, str]]:
    """A legend of the runs in a chart; none of many, which the page lists once."""
    return [(f"line-{run.series}", run.name) for run in runs] if len(runs) <= LEGENDS else []

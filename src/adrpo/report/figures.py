"""Curves of a run: what its steps logged, and its metrics at the evaluations."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from adrpo.metrics import (
    CHANGE,
    EVALUATIONS,
    INTERVAL,
    SPLITS,
    STEPS,
    TERM,
    TOTAL,
    Metric,
    describe,
    known,
    marked,
    names,
    ordered,
    with_role,
)
from adrpo.report.drawing import (
    FIRST,
    INK,
    SECOND,
    SERIES,
    STYLE,
    Figure,
    Line,
    drawn,
    line_id,
    new_axes,
)
from adrpo.report.numbers import capital, compact
from adrpo.report.summary import finite

Row = Mapping[str, Any]

MOST_POINTS = 400
"""Longer runs are averaged over blocks of steps, which keeps the page small."""

COEFFICIENT = "beta_mean"
"""The column with beta_0 as a dashed line, about which beta lies."""

AFTER = "reward_mean"
"""The column behind which the terms of the reward stand."""


def training_figures(
    metrics: Sequence[Row],
    beta_0: float | None,
    domain: str = "",
    terms: Mapping[str, str] | None = None,
) -> list[Figure]:
    """Curves over training steps, of those columns that the run has recorded.

    ``domain`` is the run's: what a column of one name means may depend on it. ``terms`` of the
    reward, name -> what weighs it, have a curve each where they are several.
    """
    figures = (
        step_curve(metrics, column, rule=beta_0 if column.name == COEFFICIENT else None)
        for column in step_columns(domain, terms or {})
    )
    return [figure for figure in figures if figure is not None]


def step_columns(domain: str, terms: Mapping[str, str]) -> list[Metric]:
    """The columns of a step that are drawn, in their order."""
    columns = []
    for name in names(metric for metric in STEPS if metric.drawn):
        columns.append(describe(name, "metrics", domain))
        if name == AFTER and len(terms) > 1:
            columns += [_term(term, weighed) for term, weighed in terms.items()]
    return columns


def _term(name: str, weighed: str) -> Metric:
    """The column of a term of the reward."""
    return replace(
        TERM,
        name=TERM.name.replace("<term>", name),
        label=capital(describe(name).label),
        note=f"a term of the reward, before {weighed}" if weighed else "a term of the reward",
    )


def evaluation_figures(
    evaluations: Sequence[Row], trained: Collection[str] = (), first: Sequence[str] = ()
) -> list[Figure]:
    """Metrics at the evaluations, with 95 % intervals, seen and unseen prompts apart; those of
    ``first`` in front, and the judges that are ``trained`` on are called so."""
    figures = [
        _evaluation_curve(evaluations, metric, marked(capital(metric.label), key in trained))
        for key in evaluation_keys(first)
        for metric in [describe(key)]
    ]
    figures.append(_overoptimization(evaluations, trained))
    return [figure for figure in figures if figure is not None]


def evaluation_keys(first: Sequence[str]) -> list[str]:
    """The metrics of an evaluation that are drawn, those of ``first`` in front."""
    keys = ordered({*first, *names(metric for metric in EVALUATIONS if metric.drawn)}, first)
    # A reward of one term is its sum, and one curve tells both.
    return [key for key in keys if key != TOTAL or first[:1] in ([], [TOTAL])]


def values_of(rows: Sequence[Row], key: str) -> NDArray[np.float64]:
    """A column of ``rows``, NaN where a row has no number in it [rows]."""
    values = (finite(row, key) for row in rows)
    return np.array([np.nan if value is None else value for value in values])


def blocks(values: NDArray[np.float64], reduce: Any = np.mean) -> NDArray[np.float64]:
    """``values`` reduced over equal blocks of rows, so that at most MOST_POINTS are left.

    A block with a NaN is NaN: the curve has a gap where a step could not be measured.
    """
    size = -(-len(values) // MOST_POINTS)
    starts = range(0, len(values), size)
    return np.array([reduce(values[start : start + size]) for start in starts])


def step_curve(rows: Sequence[Row], column: Metric, *, rule: float | None) -> Figure | None:
    """A column with the band around it that other columns say; ``rule`` is a dashed line."""
    key, note = column.name, column.note
    values = values_of(rows, key)
    recorded = values[np.isfinite(values)]
    if not len(recorded):
        return None
    steps, line = blocks(values_of(rows, "step")), blocks(values)
    legend: list[tuple[str, str]] = []
    found = Line(column.label, 1, steps.tolist(), line.tolist(), raw=True)
    with mpl.rc_context(STYLE):
        canvas, axes = new_axes(f"curve-{key}")
        band = _band(rows, key, line)
        if band is not None:
            lowest, highest, words = band
            axes.fill_between(steps, lowest, highest, color=FIRST, alpha=0.16, lw=0)
            legend += [("line-1", "mean"), ("band-1", words)]
            found = replace(found, low=lowest.tolist(), high=highest.tolist())
        if rule is not None:
            axes.axhline(rule, color=INK, lw=1.2, ls=(0, (4, 3)))
            legend.append(("dashed", f"β₀ = {rule:g}"))
        marker = "o" if len(steps) == 1 else None
        axes.plot(steps, line, color=FIRST, marker=marker, ms=4, gid=line_id(1))
        start_at(axes, column)
        axes.set_xlabel("step")
        alt = (
            f"{column.label} over {len(values)} steps: {compact(recorded[0])} at first, "
            f"{compact(recorded[-1])} at last, between {compact(recorded.min())} and "
            f"{compact(recorded.max())}."
        )
        if len(steps) < len(rows):
            note += f"; means of {-(-len(rows) // MOST_POINTS)} steps"
        return drawn(
            canvas, axes, [found], name=f"curve-{key}", title=column.label, note=note, alt=alt,
            legend=legend,
        )  # fmt: skip


def start_at(axes: Axes, column: Metric) -> None:
    """Let the y axis begin where the column says."""
    if column.least is not None:
        axes.set_ylim(bottom=column.least - 0.02 * (axes.get_ylim()[1] - column.least))


def _band(
    rows: Sequence[Row], key: str, line: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], str] | None:
    """Lower and upper edge around a mean, and their words: of its extremes, or else of its standard
    deviation, whichever has columns."""
    stem = key.removesuffix("_mean")
    least, greatest, spread = (f"{stem}{end}" for end in ("_min", "_max", "_std"))
    if known(least, "metrics") and known(greatest, "metrics"):
        lowest, highest = values_of(rows, least), values_of(rows, greatest)
        return blocks(lowest, np.min), blocks(highest, np.max), "min to max"
    if known(spread, "metrics"):
        deviation = blocks(values_of(rows, spread))
        return line - deviation, line + deviation, "± 1 std"
    return None


def _evaluation_curve(evaluations: Sequence[Row], metric: Metric, title: str) -> Figure | None:
    key = metric.name
    series = []
    for split, color, swatch in zip(SPLITS, (FIRST, SECOND), ("line-1", "line-2"), strict=True):
        rows = [row for row in evaluations if row.get("split") == split]
        rows = sorted((r for r in rows if finite(r, key) is not None), key=lambda r: r["step"])
        if rows:
            series.append((split, color, swatch, rows))
    if not series:
        return None
    span = max(row["step"] for *_, rows in series for row in rows) or 1
    alts, lines = [], []
    with mpl.rc_context(STYLE):
        canvas, axes = new_axes(f"evaluation-{key}")
        for index, (split, color, _, rows) in enumerate(series):
            # A small shift, so that the intervals of the two splits do not cover each other.
            shift = 0.012 * span * (index - (len(series) - 1) / 2)
            lines.append(intervals(axes, rows, key, color, f"{split} prompts", shift=shift))
            first, last = rows[0], rows[-1]
            alts.append(f"{split} prompts {compact(first[key])} at step {first['step']}, "
                        f"{compact(last[key])} at step {last['step']}")  # fmt: skip
        axes.set_xlim(-0.04 * span, 1.04 * span)
        axes.set_xlabel("step")
        return drawn(
            canvas, axes, lines, name=f"evaluation-{key}", title=title, note=metric.note,
            alt=f"{title}: {'; '.join(alts)}.",
            legend=[(swatch, f"{split} prompts") for split, _, swatch, _ in series],
        )  # fmt: skip


def _overoptimization(evaluations: Sequence[Row], trained: Collection[str]) -> Figure | None:
    """The optimized score beside the judge it stands for, over the divergence: where the first
    still rises and the second falls, the reward is being exploited (Gao et al., arXiv 2210.10760).
    A judge that is ``trained`` on is no judge of that.
    """
    rows = [row for row in evaluations if row.get("split") == SPLITS[0]]
    measured = {name for row in rows for name in row} - set(trained)
    chosen = [
        next((metric for metric in with_role(role) if metric.name in measured), None)
        for role in ("proxy", "judge", "price")
    ]
    if None in chosen:
        return None
    proxy, judge, price = (metric for metric in chosen if metric is not None)
    changes = [f"{metric.name}{CHANGE}" for metric in (proxy, judge)]
    keys = (price.name, *changes)
    rows = [row for row in rows if all(finite(row, key) is not None for key in keys)]
    if not rows:
        return None
    name = "overoptimization"
    spent = np.concatenate([[0.0], values_of(rows, price.name)])
    lines = [
        (metric, np.concatenate([[0.0], metric.points * values_of(rows, change)]), color)
        for metric, change, color in zip((proxy, judge), changes, (FIRST, SECOND), strict=True)
    ]
    with mpl.rc_context(STYLE):
        canvas, axes = new_axes(name)
        for _, line, color in lines:
            axes.plot(spent, line, color=color, marker="o", ms=4.5)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.axhline(0, color=INK, lw=1.2, ls=(0, (4, 3)))
        axes.set_xlabel("divergence from the base")
        return drawn(
            canvas,
            axes,
            [
                Line(metric.label, SERIES.index(color) + 1, spent.tolist(), line.tolist())
                for metric, line, color in lines
            ],
            name=name,
            title="Reward and judge",
            note="change against the base, in points of 100; the optimized score, and what it "
            "stands for",
            alt=f"Change in points over the divergence: {proxy.label} {compact(lines[0][1][-1])} "
            f"and {judge.label} {compact(lines[1][1][-1])} at {compact(spent[-1])}.",
            legend=(("line-1", proxy.label), ("line-2", judge.label)),
        )


def intervals(
    axes: Axes, rows: Sequence[Row], key: str, color: str, name: str, *, shift: float = 0.0
) -> Line:
    """Draw a metric of ``rows`` over their steps, ``shift`` to the right, with its intervals; the
    line of that ``name``."""
    steps, values = values_of(rows, "step"), values_of(rows, key)
    low, high = (values_of(rows, f"{key}{end}") for end in INTERVAL)
    axes.vlines(steps + shift, low, high, color=color, lw=1.4, alpha=0.55)
    axes.plot(steps + shift, values, color=color, marker="o", ms=4.5)
    return Line(
        name, SERIES.index(color) + 1, steps.tolist(), values.tolist(), low.tolist(),
        high.tolist(), shift,
    )  # fmt: skip

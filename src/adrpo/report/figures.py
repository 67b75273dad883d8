"""Curves of a run as inline SVG.

The SVG takes its colors from the page's CSS variables (``--ink``, ``--grid``, ``--series-1``...),
so that one drawing serves light and dark, and its font from the page. Legends and titles are
HTML: they never cover data. Equal rows give equal bytes.
"""

import io
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from adrpo.metrics import (
    CHANGE,
    EVALUATIONS,
    INTERVAL,
    SPLITS,
    STEPS,
    Metric,
    describe,
    known,
    marked,
    names,
    with_role,
)
from adrpo.report.numbers import compact
from adrpo.report.summary import finite

Row = Mapping[str, Any]

WIDTH, HEIGHT, POINTS_PER_INCH = 330, 205, 72
"""Size in SVG units: about the CSS pixels of a column of the page, so text keeps its size."""

MOST_POINTS = 400
"""Longer runs are averaged over blocks of steps, which keeps the page small."""

COEFFICIENT = "beta_mean"
"""The column with beta_0 as a dashed line, about which beta lies."""

# Stand-ins that the drawing uses and _to_markup replaces; no two of them may be alike.
PLACEHOLDERS = {"#010203": "var(--muted)", "#010204": "var(--grid)",
                "#010205": "var(--series-1)", "#010206": "var(--series-2)"}  # fmt: skip
INK, GRID, FIRST, SECOND = PLACEHOLDERS

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 11,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.formatter.limits": (-5, 6),
    "axes.formatter.use_mathtext": False,
    "grid.color": GRID,
    "grid.linewidth": 1,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": INK,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Figure:
    """A drawn chart. ``legend`` pairs a CSS class of the swatch with its label."""

    name: str
    title: str
    note: str
    alt: str
    legend: tuple[tuple[str, str], ...]
    svg: Markup


def training_figures(
    metrics: Sequence[Row], beta_0: float | None, domain: str = ""
) -> list[Figure]:
    """Curves over training steps, of those columns that the run has recorded.

    ``domain`` is the run's: what a column of one name means may depend on it.
    """
    columns = [describe(name, "metrics", domain) for name in names(m for m in STEPS if m.drawn)]
    figures = (
        _curve(metrics, column, rule=beta_0 if column.name == COEFFICIENT else None)
        for column in columns
    )
    return [figure for figure in figures if figure is not None]


def evaluation_figures(evaluations: Sequence[Row], trained: Collection[str] = ()) -> list[Figure]:
    """Metrics at the evaluations, with 95 % intervals, seen and unseen prompts apart; the judges
    that are ``trained`` on are called so."""
    figures = [
        _evaluation_curve(evaluations, metric, marked(metric.label, metric.name in trained))
        for metric in EVALUATIONS
        if metric.drawn
    ]
    figures.append(_overoptimization(evaluations, trained))
    return [figure for figure in figures if figure is not None]


def _column(rows: Sequence[Row], key: str) -> NDArray[np.float64]:
    values = (finite(row, key) for row in rows)
    return np.array([np.nan if value is None else value for value in values])


def _blocks(values: NDArray[np.float64], reduce: Any = np.mean) -> NDArray[np.float64]:
    """``values`` reduced over equal blocks of rows, so that at most MOST_POINTS are left.

    A block with a NaN is NaN: the curve has a gap where a step could not be measured.
    """
    size = -(-len(values) // MOST_POINTS)
    starts = range(0, len(values), size)
    return np.array([reduce(values[start : start + size]) for start in starts])


def _curve(rows: Sequence[Row], column: Metric, *, rule: float | None) -> Figure | None:
    """A column with the band around it that other columns say; ``rule`` is a dashed line."""
    key, note = column.name, column.note
    values = _column(rows, key)
    recorded = values[np.isfinite(values)]
    if not len(recorded):
        return None
    steps, line = _blocks(_column(rows, "step")), _blocks(values)
    legend: list[tuple[str, str]] = []
    with mpl.rc_context(STYLE):
        canvas, axes = _axes(f"curve-{key}")
        band = _band(rows, key, line)
        if band is not None:
            lowest, highest, words = band
            axes.fill_between(steps, lowest, highest, color=FIRST, alpha=0.16, lw=0)
            legend += [("line-1", "mean"), ("band-1", words)]
        if rule is not None:
            axes.axhline(rule, color=INK, lw=1.2, ls=(0, (4, 3)))
            legend.append(("dashed", f"β₀ = {rule:g}"))
        axes.plot(steps, line, color=FIRST, marker="o" if len(steps) == 1 else None, ms=4)
        if column.least is not None:
            least = column.least
            axes.set_ylim(bottom=least - 0.02 * (axes.get_ylim()[1] - least))
        axes.set_xlabel("step")
        svg = _to_markup(canvas, f"curve-{key}")
    alt = (
        f"{column.label} over {len(values)} steps: {compact(recorded[0])} at first, "
        f"{compact(recorded[-1])} at last, between {compact(recorded.min())} and "
        f"{compact(recorded.max())}."
    )
    if len(steps) < len(rows):
        note += f"; means of {-(-len(rows) // MOST_POINTS)} steps"
    return Figure(f"curve-{key}", column.label, note, alt, tuple(legend), svg)


def _band(
    rows: Sequence[Row], key: str, line: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], str] | None:
    """Lower and upper edge around a mean, and their words: of its extremes, or else of its standard
    deviation, whichever has columns."""
    stem = key.removesuffix("_mean")
    least, greatest, spread = (f"{stem}{end}" for end in ("_min", "_max", "_std"))
    if known(least, "metrics") and known(greatest, "metrics"):
        lowest, highest = _column(rows, least), _column(rows, greatest)
        return _blocks(lowest, np.min), _blocks(highest, np.max), "min to max"
    if known(spread, "metrics"):
        deviation = _blocks(_column(rows, spread))
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
    alts = []
    with mpl.rc_context(STYLE):
        canvas, axes = _axes(f"evaluation-{key}")
        for index, (split, color, _, rows) in enumerate(series):
            # A small shift, so that the intervals of the two splits do not cover each other.
            shift = 0.012 * span * (index - (len(series) - 1) / 2)
            _intervals(axes, _column(rows, "step") + shift, rows, key, color)
            first, last = rows[0], rows[-1]
            alts.append(f"{split} prompts {compact(first[key])} at step {first['step']}, "
                        f"{compact(last[key])} at step {last['step']}")  # fmt: skip
        axes.set_xlim(-0.04 * span, 1.04 * span)
        axes.set_xlabel("step")
        svg = _to_markup(canvas, f"evaluation-{key}")
    legend = tuple((swatch, f"{split} prompts") for split, _, swatch, _ in series)
    alt = f"{title}: {'; '.join(alts)}."
    return Figure(f"evaluation-{key}", title, metric.note, alt, legend, svg)


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
    spent = np.concatenate([[0.0], _column(rows, price.name)])
    lines = [
        (metric, np.concatenate([[0.0], metric.points * _column(rows, change)]), color)
        for metric, change, color in zip((proxy, judge), changes, (FIRST, SECOND), strict=True)
    ]
    with mpl.rc_context(STYLE):
        canvas, axes = _axes(name)
        for _, line, color in lines:
            axes.plot(spent, line, color=color, marker="o", ms=4.5)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.axhline(0, color=INK, lw=1.2, ls=(0, (4, 3)))
        axes.set_xlabel("divergence from the base")
        svg = _to_markup(canvas, name)
    alt = (
        f"Change in points over the divergence: {proxy.label} {compact(lines[0][1][-1])} and "
        f"{judge.label} {compact(lines[1][1][-1])} at {compact(spent[-1])}."
    )
    legend = (("line-1", proxy.label), ("line-2", judge.label))
    note = "change against the base, in points of 100; the optimized score, and what it stands for"
    return Figure(name, "Reward and judge", note, alt, legend, svg)


def _intervals(
    axes: Axes, steps: NDArray[np.float64], rows: Sequence[Row], key: str, color: str
) -> None:
    low, high = (_column(rows, f"{key}{end}") for end in INTERVAL)
    axes.vlines(steps, low, high, color=color, lw=1.4, alpha=0.55)
    axes.plot(steps, _column(rows, key), color=color, marker="o", ms=4.5)


def _axes(name: str) -> tuple[Canvas, Axes]:
    # The salt makes ids depend on the figure's name instead of on chance.
    mpl.rcParams["svg.hashsalt"] = name
    size = (WIDTH / POINTS_PER_INCH, HEIGHT / POINTS_PER_INCH)
    canvas = Canvas(figsize=size, dpi=POINTS_PER_INCH, layout="constrained")
    axes = canvas.add_subplot()
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.margins(x=0.03, y=0.08)
    return canvas, axes


def _to_markup(canvas: Canvas, name: str) -> Markup:
    """The drawing as an <svg> element that the page styles; ids carry the figure's name."""
    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(canvas).print_svg(stream, metadata=nothing)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<svg [^>]*>", f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true" '
                 'xmlns="http://www.w3.org/2000/svg" '
                 'xmlns:xlink="http://www.w3.org/1999/xlink">', svg, count=1)  # fmt: skip
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r"font: ?([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for placeholder, variable in PLACEHOLDERS.items():
        svg = svg.replace(placeholder, variable)
    return Markup(svg.strip())  # drawn here, from numbers and fixed words only

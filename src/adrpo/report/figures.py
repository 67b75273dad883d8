"""Curves of a run as inline SVG.

The SVG takes its colors from the page's CSS variables (``--ink``, ``--grid``, ``--series-1``...),
so that one drawing serves light and dark, and its font from the page. Legends and titles are
HTML: they never cover data. Equal rows give equal bytes.
"""

import io
import re
from collections.abc import Mapping, Sequence
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

from adrpo.report.summary import METRICS, SPLITS, compact, finite

Row = Mapping[str, Any]

WIDTH, HEIGHT, POINTS_PER_INCH = 330, 205, 72
"""Size in SVG units: about the CSS pixels of a column of the page, so text keeps its size."""

MOST_POINTS = 400
"""Longer runs are averaged over blocks of steps, which keeps the page small."""

EVALUATED = (
    "gold_accuracy", "clip_score_evaluation", "clip_diversity", "reward", "kl", "entropy",
)  # fmt: skip
"""Metrics drawn at the evaluations; the reward CLIP's score would repeat the reward's curve."""

DIVERGENCES = {"flow": "mean |v − v_ref|² in the update", "llm": "mean KL of a token, in nats"}
"""Domain -> what its divergence is."""

PROXY = "clip_score"
JUDGES = (("gold_accuracy", 100.0), ("clip_score_evaluation", 1.0))
"""The metric that training optimizes, and what judges it: the first that a run has, with the
factor that makes it points of 100."""

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
    metrics: Sequence[Row], beta_0: float | None, domain: str = "flow"
) -> list[Figure]:
    """Curves over training steps, of those names that the run has recorded."""
    beta_legend = [("line-1", "mean"), ("band-1", "min to max")]
    if beta_0 is not None:
        beta_legend.append(("dashed", f"β₀ = {beta_0:g}"))
    candidates = [
        _curve(metrics, "reward_mean", "Reward", "over the samples of a step",
               band="std", legend=(("line-1", "mean"), ("band-1", "± 1 std"))),
        _curve(metrics, "divergence", "Divergence from the reference",
               DIVERGENCES.get(domain, "")),
        _curve(metrics, "beta_mean", "Coefficient β", "β₀ − advantage, per sample",
               band="range", legend=tuple(beta_legend), rule=beta_0),
        _curve(metrics, "advantage_clipped_fraction", "Clipped advantages",
               "share of samples at a clip bound", low=0.0),
        _curve(metrics, "entropy", "Entropy of the policy", "nats a token, in training"),
        _curve(metrics, "completion_length", "Length of completions", "tokens, in training"),
        _curve(metrics, "loss", "Loss", "as minimized"),
        _curve(metrics, "grad_norm", "Gradient norm", "before clipping", low=0.0),
    ]  # fmt: skip
    return [figure for figure in candidates if figure is not None]


def evaluation_figures(evaluations: Sequence[Row]) -> list[Figure]:
    """Metrics at the evaluations, with 95 % intervals, seen and unseen prompts apart."""
    figures = [_evaluation_curve(evaluations, key) for key in EVALUATED]
    figures.append(_overoptimization(evaluations))
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


def _curve(
    rows: Sequence[Row],
    key: str,
    title: str,
    note: str,
    *,
    band: str | None = None,
    legend: tuple[tuple[str, str], ...] = (),
    rule: float | None = None,
    low: float | None = None,
) -> Figure | None:
    values = _column(rows, key)
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    steps, line = _blocks(_column(rows, "step")), _blocks(values)
    with mpl.rc_context(STYLE):
        canvas, axes = _axes(f"curve-{key}")
        if band == "std":
            spread = _blocks(_column(rows, key.replace("_mean", "_std")))
            axes.fill_between(steps, line - spread, line + spread, color=FIRST, alpha=0.16, lw=0)
        elif band == "range":
            lowest = _blocks(_column(rows, key.replace("_mean", "_min")), np.min)
            highest = _blocks(_column(rows, key.replace("_mean", "_max")), np.max)
            axes.fill_between(steps, lowest, highest, color=FIRST, alpha=0.16, lw=0)
        if rule is not None:
            axes.axhline(rule, color=INK, lw=1.2, ls=(0, (4, 3)))
        axes.plot(steps, line, color=FIRST, marker="o" if len(steps) == 1 else None, ms=4)
        if low is not None:
            axes.set_ylim(bottom=low - 0.02 * (axes.get_ylim()[1] - low))
        axes.set_xlabel("step")
        svg = _to_markup(canvas, f"curve-{key}")
    alt = (
        f"{title} over {len(values)} steps: {compact(known[0])} at first, {compact(known[-1])} at "
        f"last, between {compact(known.min())} and {compact(known.max())}."
    )
    if len(steps) < len(rows):
        note += f"; means of {-(-len(rows) // MOST_POINTS)} steps"
    return Figure(f"curve-{key}", title, note, alt, legend, svg)


def _evaluation_curve(evaluations: Sequence[Row], key: str) -> Figure | None:
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
    label, note = METRICS[key]
    legend = tuple((swatch, f"{split} prompts") for split, _, swatch, _ in series)
    return Figure(f"evaluation-{key}", label, note, f"{label}: {'; '.join(alts)}.", legend, svg)


def _overoptimization(evaluations: Sequence[Row]) -> Figure | None:
    """The optimized score beside the judge it stands for, over the divergence: where the first
    still rises and the second falls, the reward is being exploited (Gao et al., arXiv 2210.10760).
    """
    judge, factor = next(
        ((key, factor) for key, factor in JUDGES if any(key in row for row in evaluations)),
        (None, 1.0),
    )
    keys = ("divergence", f"{PROXY}_change", f"{judge}_change")
    rows = [row for row in evaluations if row.get("split") == SPLITS[0]]
    rows = [row for row in rows if all(finite(row, key) is not None for key in keys)]
    if judge is None or not rows:
        return None
    name = "overoptimization"
    divergence = np.concatenate([[0.0], _column(rows, "divergence")])
    lines = [
        (PROXY, np.concatenate([[0.0], _column(rows, keys[1])]), FIRST),
        (judge, np.concatenate([[0.0], factor * _column(rows, keys[2])]), SECOND),
    ]
    with mpl.rc_context(STYLE):
        canvas, axes = _axes(name)
        for _, line, color in lines:
            axes.plot(divergence, line, color=color, marker="o", ms=4.5)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.axhline(0, color=INK, lw=1.2, ls=(0, (4, 3)))
        axes.set_xlabel("divergence from the base")
        svg = _to_markup(canvas, name)
    labels = [METRICS[key][0] for key, *_ in lines]
    alt = (
        f"Change in points over the divergence: {labels[0]} {compact(lines[0][1][-1])} and "
        f"{labels[1]} {compact(lines[1][1][-1])} at {compact(divergence[-1])}."
    )
    legend = (("line-1", labels[0]), ("line-2", labels[1]))
    note = "change against the base, in points of 100; the optimized score, and what it stands for"
    return Figure(name, "Reward and judge", note, alt, legend, svg)


def _intervals(
    axes: Axes, steps: NDArray[np.float64], rows: Sequence[Row], key: str, color: str
) -> None:
    low, high = _column(rows, f"{key}_low"), _column(rows, f"{key}_high")
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

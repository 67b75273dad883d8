"""Charts as inline SVG for both themes, and the numbers that a reader's pointer finds on them.

The SVG takes its colors from the page's CSS variables (``--ink``, ``--grid``, ``--series-1``...),
so that one drawing serves light and dark, and its font from the page. Legends and titles are
HTML: they never cover data. Equal rows give equal bytes.
"""

import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT, POINTS_PER_INCH = 330, 205, 72
"""Size in SVG units: about the CSS pixels of a column of the page, so text keeps its size."""

MOST_SERIES = 8
"""Series that the page has colors for; more take them again."""

# Stand-ins that the drawing uses and markup() replaces; no two of them may be alike.
INK, GRID, CARD = "#010203", "#010204", "#010230"
SERIES = tuple(f"#0102{5 + place:02x}" for place in range(MOST_SERIES))
FIRST, SECOND = SERIES[:2]
PLACEHOLDERS = {
    INK: "var(--muted)",
    GRID: "var(--grid)",
    CARD: "var(--card)",
    **{color: f"var(--series-{place})" for place, color in enumerate(SERIES, 1)},
}

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
    "text.parse_math": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Line:
    """The points of one line of a chart, as a reader's pointer finds them.

    ``series`` is the number of its color; ``low`` and ``high`` are the ends of what is drawn around
    the points, empty without any. It is drawn ``shift`` to the right of its ``x``. ``raw`` says
    that it has a value a step, which can be smoothed.
    """

    name: str
    series: int
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    shift: float = 0.0
    raw: bool = False


@dataclass(frozen=True)
class Figure:
    """A drawn chart. ``legend`` pairs a CSS class of the swatch with its label; ``points`` is the
    JSON of its lines, and of where they lie in the drawing."""

    name: str
    title: str
    note: str
    alt: str
    legend: tuple[tuple[str, str], ...]
    svg: Markup
    points: str


def line_id(series: int) -> str:
    """The id, within a chart, of the line that is drawn in a color."""
    return f"line-{series}"


def new_axes(name: str) -> tuple[Canvas, Axes]:
    """A canvas with the axes of the chart ``name``; to be called, as all drawing, under STYLE."""
    # The salt makes ids depend on the figure's name instead of on chance.
    mpl.rcParams["svg.hashsalt"] = name
    size = (WIDTH / POINTS_PER_INCH, HEIGHT / POINTS_PER_INCH)
    canvas = Canvas(figsize=size, dpi=POINTS_PER_INCH, layout="constrained")
    axes = canvas.add_subplot()
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.margins(x=0.03, y=0.08)
    return canvas, axes


def drawn(
    canvas: Canvas,
    axes: Axes,
    lines: Iterable[Line],
    *,
    name: str,
    title: str,
    note: str,
    alt: str,
    legend: Iterable[tuple[str, str]],
) -> Figure:
    """The chart on ``canvas`` as a figure of the page."""
    svg = markup(canvas, name)
    return Figure(name, title, note, alt, tuple(legend), svg, _points(axes, lines))


def markup(canvas: Canvas, name: str) -> Markup:
    """The drawing as an <svg> element that the page styles."""
    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    FigureCanvasSVG(canvas).print_svg(stream, metadata=nothing)
    return inline(stream.getvalue(), name, PLACEHOLDERS)


def inline(file: str, name: str, colors: Mapping[str, str]) -> Markup:
    """The content of an SVG ``file`` that matplotlib wrote as an element of a page: ids carry its
    ``name``, and ``colors`` are those of the file and what the page has for them."""
    svg = file[file.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    box = re.search(r'viewBox="([^"]+)"', svg)
    assert box is not None, "matplotlib gives every drawing one"
    svg = re.sub(r"<svg [^>]*>", f'<svg viewBox="{box[1]}" aria-hidden="true" '
                 'xmlns="http://www.w3.org/2000/svg" '
                 'xmlns:xlink="http://www.w3.org/1999/xlink">', svg, count=1)  # fmt: skip
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r"font: ?([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for color, variable in colors.items():
        svg = svg.replace(color, variable)
    return Markup(svg.strip())  # drawn here, from numbers and words that matplotlib escapes


def _points(axes: Axes, lines: Iterable[Line]) -> str:
    """The JSON of ``lines``, once ``axes`` are drawn: x lies at x[0] + x[1] * value from the left
    of the drawing, y at y[0] + y[1] * value from its top, and the axes span so much from there."""
    (left, low), (right, high) = axes.transData.transform([(0, 0), (1, 1)])
    floor, ceiling = axes.transAxes.transform([(0, 0), (0, 1)])[:, 1]
    return json.dumps(
        {
            "x": [_short(left), _short(right - left)],
            "y": [_short(HEIGHT - low), _short(low - high)],
            "span": [_short(HEIGHT - ceiling), _short(HEIGHT - floor)],
            "of": axes.get_xlabel(),
            "lines": [
                {
                    "name": line.name,
                    "series": line.series,
                    "shift": _short(line.shift),
                    "raw": line.raw,
                    "x": [_short(value) for value in line.x],
                    "y": [_short(value) for value in line.y],
                    "low": [_short(value) for value in line.low],
                    "high": [_short(value) for value in line.high],
                }
                for line in lines
            ],
        },
        separators=(",", ":"),
        allow_nan=False,
    )


def _short(value: float) -> float | None:
    """``value`` with six significant digits, an integer with all of its own; None where it is not
    finite."""
    if not math.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(f"{value:.6g}")

"""Colors, panels, legends and files, as all figures of a comparison have them."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from adrpo.comparison.collect import Array
from adrpo.comparison.reference_lines import BASE
from adrpo.report.drawing import inline

DPI = 150

BASE_COLOR = "#1b1c1e"
NOTE_COLOR = "#62656b"
"""Color of what is written at a point."""

COLORS = ("#2b5fc9", "#c96a12", "#16877a", "#8a63c9", "#b8336a", "#7d7a1e",
          "#3a9bd9", "#8c4a2f", "#5b6470", "#4d9e3f")  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")

POINTER = 11
"""Width, in points, of the disk around a value in which a pointer finds it."""

TOLD = "told-"
"""Beginning of the ids of these disks."""

THEME = {
    BASE_COLOR: "var(--ink)",
    NOTE_COLOR: "var(--muted)",
    "#9a9da3": "var(--muted)",
    "#b9bbb6": "var(--line)",
    "#e9e9e4": "var(--grid)",
    "#ffffff": "var(--card)",
    **{color: f"var(--series-{place})" for place, color in enumerate(COLORS, 1)},
}
"""Color of a figure -> what a page, light or dark, has for it."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.color": BASE_COLOR,
    "axes.labelcolor": BASE_COLOR,
    "font.size": 9.5,
    "axes.edgecolor": "#b9bbb6",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e9e9e4",
    "xtick.color": NOTE_COLOR,
    "ytick.color": NOTE_COLOR,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.6,
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Drawing:
    """A PNG file with what the page says about it; charts have an SVG file beside it."""

    path: Path
    title: str
    note: str
    alt: str


def styles_of(methods: Sequence[str], reference: str) -> dict[str, tuple[str, str]]:
    """Color and marker of each method; the reference has the first of both."""
    ordered = sorted(methods, key=lambda name: name != reference)
    return {
        name: (COLORS[place % len(COLORS)], MARKERS[place % len(MARKERS)])
        for place, name in enumerate(ordered)
    }


def grid(rows: int, columns: int, *, width: float, height: float) -> tuple[Figure, Any]:
    """A figure of panels of ``width`` x ``height`` inches."""
    size = (width * columns, height * rows + 0.45)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def legend(
    figure: Figure,
    styles: dict[str, tuple[str, str]],
    *,
    base: bool = False,
    lines: Sequence[Line2D] = (),
) -> None:
    """A legend above the panels; ``base`` adds the untrained model's point, ``lines`` more."""
    handles = [
        Line2D([], [], color=color, marker=marker or None, ls="-" if marker else "--", label=name)
        for name, (color, marker) in styles.items()
    ]
    if base:
        handles.insert(0, Line2D([], [], color=BASE_COLOR, marker="P", ls="", label=BASE))
    handles[base:base] = lines
    for columns in range(_columns(len(styles) + len(lines)), 0, -1):
        box = figure.legend(handles=handles, loc="outside upper left", ncols=columns, frameon=False)
        if box.get_window_extent().width <= figure.bbox.width or columns == 1:
            return
        box.remove()  # long names: what lies beyond the figure's edge is not seen


def _columns(entries: int) -> int:
    """Entries of a legend's row beside the base: all of a few, half or a third of many."""
    rows = 1 if entries <= 4 else 2 if entries <= 8 else 3
    return -(-(entries + 1) // rows)


def tell(panel: Axes, name: str, steps: Sequence[float], x: Array, y: Array) -> None:
    """Tell a reader's pointer the values at the points (x, y) of ``name``, one a step.

    A point is an invisible disk whose title, in the SVG file alone, :func:`save` writes: browsers
    show it.
    """
    for step, across, along in zip(steps, x, y, strict=True):
        if np.isfinite(across) and np.isfinite(along):
            label = f"{name}, step {step:g}"
            (disk,) = panel.plot(
                across, along, "o", color=BASE_COLOR, ms=POINTER, mew=0, alpha=0, label=label
            )
            place = panel.figure.axes.index(panel)
            disk.set_gid(f"{TOLD}{place}-{len(panel.lines)}")


def _with_titles(svg: str, figure: Figure) -> str:
    """The drawing with the values of what :func:`tell` drew, in words."""
    for disk in figure.findobj(Line2D):
        gid, panel = disk.get_gid(), disk.axes
        if gid is None or not isinstance(panel, Axes) or not gid.startswith(TOLD):
            continue
        x, y = np.asarray(disk.get_xydata(), dtype=float)[0]
        along = panel.get_ylabel() or panel.get_title(loc="left")
        said = f"{disk.get_label()}: {along} {y:.4g}"
        if panel.get_xlabel() != "step":
            said += f", {panel.get_xlabel()} {x:.4g}"
        svg = svg.replace(f'<g id="{gid}">', f'<g id="{gid}"><title>{escape(said)}</title>')
    return svg


def save(figure: Figure, path: Path, *, vector: bool = True) -> None:
    """Write the figure as a PNG file and, where ``vector``, as an SVG file beside it."""
    # Neither date nor version, and ids by the name: equal runs give equal files.
    png: Callable[..., None] = FigureCanvasAgg(figure).print_png
    png(path, metadata={"Software": None})
    if vector:
        mpl.rcParams["svg.hashsalt"] = path.stem
        draw: Callable[..., None] = FigureCanvasSVG(figure).print_svg
        stream = io.StringIO()
        draw(stream, metadata=dict.fromkeys(("Date", "Creator")))
        written = _with_titles(stream.getvalue(), figure)
        path.with_suffix(".svg").write_text(written, encoding="utf-8")


def themed(path: Path) -> Markup | None:
    """The chart whose PNG file is ``path``, as a part of a page that is light or dark; None where
    it is no chart."""
    file = path.with_suffix(".svg")
    return inline(file.read_text(encoding="utf-8"), path.stem, THEME) if file.exists() else None

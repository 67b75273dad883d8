"""Reference lines in the figures: the untrained base by guidance, and by best of n."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from adrpo.comparison.analysis import Analysis
from adrpo.comparison.canvas import BASE_COLOR, NOTE_COLOR
from adrpo.comparison.collect import Array
from adrpo.comparison.reference_lines import (
    BASE,
    BY_CHANCE,
    BY_GUIDANCE,
    BY_REWARD,
    ReferenceLine,
    line_points,
)
from adrpo.comparison.trade_offs import PRICES
from adrpo.metrics import UNSEEN

STYLES: dict[str, dict[str, Any]] = {
    BY_GUIDANCE: {"color": BASE_COLOR, "marker": "d", "ls": "--"},
    BY_REWARD: {"color": "#62656b", "marker": "o", "ls": "-"},
    BY_CHANCE: {"color": "#9a9da3", "marker": "x", "ls": ":"},
}
"""Black and greys: colors are the methods'."""

TOLD = {
    BY_GUIDANCE: "guided (the scale is written at each point)",
    BY_REWARD: "the best of n by the reward",
    BY_CHANCE: "one of n by chance",
}

STEPS = 24
"""Steps in which a line over a price is drawn from a point to the next."""

UNWRITTEN = (BY_CHANCE,)
"""Lines whose points lie on the base's but for noise: what is written there would hide the rest."""


def lines_of(analysis: Analysis, split: str) -> list[ReferenceLine]:
    """The lines of a split: they are measured on the unseen prompts alone."""
    return analysis.lines if split == UNSEEN else []


def draw_lines(panel: Axes, analysis: Analysis, split: str, price: str, reward: str) -> None:
    """Draw the lines whose rows have both metrics into a panel of ``reward`` over ``price``, the
    setting written at each point but the base's."""
    part = next(part for part in analysis.splits if part.split == split)
    means = {
        row: {metric: estimate.mean for metric, estimate in estimates.items()}
        for row, estimates in {BASE: part.base, **part.others}.items()
    }
    for line in lines_of(analysis, split):
        points = line_points(line, means, price, reward)
        if not points:
            continue
        _, x, y = (np.array(column) for column in zip(*points, strict=True))
        if price in PRICES:
            x, y = _by_the_root(x), _between(y)
        panel.plot(
            x, y, label=line.name, ms=4, lw=1.2, zorder=3, markevery=len(x) // (len(points) - 1),
            **STYLES[line.name],
        )  # fmt: skip
        # Beside the line, not on it.
        rises = (points[-1][1] - points[0][1]) * (points[-1][2] - points[0][2]) > 0
        for label, at_x, at_y in points:
            if line.name not in UNWRITTEN and line.points[label] != BASE:
                panel.annotate(
                    label, (at_x, at_y), textcoords="offset points", fontsize=7.5,
                    xytext=(6, -9) if rises else (5, 3), color=NOTE_COLOR, annotation_clip=True,
                )  # fmt: skip


def _by_the_root(prices: Array) -> Array:
    """Places between ``prices`` at equal steps of their root: a divergence is a square, that of
    guidance (w - 1)² |v_cond - v_uncond|², so that a straight chord would lie below the front."""
    return np.square(_between(np.sqrt(prices)))


def _between(values: Array) -> Array:
    """``values`` with STEPS equal steps from each to the next."""
    places = np.linspace(0, len(values) - 1, STEPS * (len(values) - 1) + 1)
    return np.interp(places, np.arange(len(values)), values)


def line_handles(lines: Sequence[ReferenceLine]) -> list[Line2D]:
    """Entries of a legend for ``lines``."""
    return [Line2D([], [], label=line.name, ms=4, lw=1.2, **STYLES[line.name]) for line in lines]


def line_note(analysis: Analysis) -> str:
    """The sentence that a figure says of its lines."""
    told = ", ".join(TOLD[line.name] for line in analysis.lines)
    return f"Black and grey: the untrained base, {told}; a line stands where it has both metrics."

"""The picture of benchmarks/mixture.py: training, and what reward costs in divergence and modes."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

COLORS = {"base": "Blues", "EMA": "Oranges", "fixed": "Greens", "no": "Greys"}
"""First word of a setting's name -> map from which its settings take darker and darker colors."""

CEILING = 4.0
"""Rewards above lie far outside the ring; those curves leave the picture."""

LEAST = 1 / 4096
"""Drawn for an empty mode: half of what one of the 2048 samples weighs."""


def draw(rows: list[dict[str, Any]], record: dict[str, Any], file: Path) -> None:
    """Reward over steps | divergence over gain | least mode over gain; means over the seeds."""
    curves = _means(rows)
    figure, (training, cost, modes) = plt.subplots(1, 3, figsize=(13, 4.8))
    for (name, curve), color in zip(curves.items(), _colors(list(curves)), strict=True):
        training.plot(curve["step"], curve["reward"], color=color, label=name)
        # Up to the largest gain within the picture: what follows a collapse is no trade-off.
        shown = _until_off(curve["reward"])
        cost.plot(curve["gain"][shown], curve["divergence"][shown], color=color)
        modes.plot(curve["gain"][shown], curve["least_mode"][shown].clip(LEAST), color=color)
        if name in record["exact"] and "clip 1" not in name:
            first = record["exact"][name]["first"]["reward"]
            training.axhline(first, color=color, linestyle=":", linewidth=1)
    tilt = {key: np.array([t[key] for t in record["tilts"]]) for key in record["tilts"][0]}
    style = {"color": "black", "linestyle": "--", "linewidth": 1}
    cost.plot(tilt["gain"], tilt["divergence"], label="exact tilt p_1 exp(d x)", **style)
    modes.plot(tilt["gain"], tilt["least_mode"], **style)
    modes.axhline(0.01, color="0.6", linewidth=0.8)
    _label(training, "step", "mean reward (dotted: exact first outer step)", (-0.2, CEILING))
    _label(cost, "gain of mean reward", r"divergence $|v - v_{base}|^2$", (0, CEILING))
    _label(modes, "gain of mean reward", "mass of the least mode", (LEAST, 0.2))
    modes.set_yscale("log")
    for axes in (cost, modes):
        axes.set_xlim(0, CEILING - 0.5)
    figure.legend(loc="lower center", ncol=4, frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.17, 1, 1))
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _label(axes: Axes, x: str, y: str, limits: tuple[float, float]) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_ylim(*limits)
    axes.spines[["top", "right"]].set_visible(False)


def _until_off(reward: np.ndarray) -> slice:
    """Up to the first evaluation beyond CEILING, or all."""
    off = np.flatnonzero(reward > CEILING)
    return slice(0, int(off[0]) + 1 if len(off) else None)


def _colors(names: list[str]) -> list[Any]:
    seen: dict[str, int] = defaultdict(int)
    colors = []
    for name in names:
        family = name.split()[0]
        colors.append(plt.get_cmap(COLORS[family])(0.4 + 0.17 * seen[family]))
        seen[family] += 1
    return colors


def _means(rows: list[dict[str, Any]]) -> dict[str, dict[str, np.ndarray]]:
    """setting -> metric -> mean over the seeds at each step, in the order of the rows."""
    values: dict[str, dict[int, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        values[row["setting"]][row["step"]].append(row)
    return {
        name: {
            metric: np.array([np.mean([row[metric] for row in same]) for same in steps.values()])
            for metric in ("step", "reward", "gain", "divergence", "least_mode")
        }
        for name, steps in values.items()
    }

"""The figure of rewards over what training cost: network calls and samples, not seconds.

Seconds are those of a machine and of what else it did; counts are the method's own.
"""

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator

from adrpo.comparison.canvas import STYLE, Drawing, grid, legend, save, styles_of, tell
from adrpo.comparison.collect import Array, MethodResults, Results
from adrpo.evaluation.intervals import standard_error
from adrpo.metrics import describe

WORDS = {"model_calls": "network calls of training", "samples": "samples of training"}
"""Column of metrics.jsonl -> the axis of its sum."""


def draw_costs(
    results: Results,
    rewards: Sequence[str],
    split: str,
    path: Path,
    title: Callable[[str], str] = lambda reward: describe(reward).label,
) -> Drawing | None:
    """Write ``rewards``, each with its ``title``, over each count that all methods have; None where
    there is none."""
    methods = results.methods
    columns = [name for name in WORDS if all(name in m.costs for m in methods.values())]
    if not columns or not rewards:
        return None
    styles = styles_of(list(methods), results.plan.reference)
    with mpl.rc_context(STYLE):
        # A single count would fill the page by itself: its rewards stand side by side.
        across = len(columns) if len(columns) > 1 else len(rewards)
        down = len(rewards) * len(columns) // across
        figure, axes = grid(down, across, width=4.9, height=3.2)
        panels = [panel for row in axes for panel in row]
        for panel, (reward, column) in zip(panels, product(rewards, columns), strict=True):
            for name, method in methods.items():
                spent, mean = _curve(panel, method, split, reward, column, *styles[name])
                tell(panel, name, method.splits[split].steps, spent, mean)
            panel.set_xlabel(WORDS[column])
            panel.set_ylabel(title(reward))
            panel.xaxis.set_major_locator(MaxNLocator(5))
            panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        legend(figure, styles)
        save(figure, path)
    labels = [title(reward) for reward in rewards]
    return Drawing(
        path,
        f"Rewards over what they cost, {split} prompts",
        "Means over seeds at the evaluations, over sums of the training steps; bands are ± one "
        "standard error over seeds. A network call is one sample in one pass, the reference's "
        "included. Pairs that a method draws before its first step are not counted.",
        f"{' and '.join(labels)} over {' and '.join(WORDS[column] for column in columns)}.",
    )


def _curve(
    panel: Axes, method: MethodResults, split: str, reward: str, column: str,
    color: str, marker: str,
) -> tuple[Array, Array]:  # fmt: skip
    """Draw the reward of a method over what it spent, and return the points."""
    part = method.splits[split]
    spent = method.costs[column][:, part.steps].mean(axis=0)
    values = part.curves[reward]
    mean = np.nanmean(values, axis=0)
    if len(values) > 1:
        error = np.array([standard_error(at_step) for at_step in values.T])
        panel.fill_between(spent, mean - error, mean + error, color=color, alpha=0.15, lw=0)
    panel.plot(spent, mean, color=color, marker=marker, ms=3.5)
    return spent, mean

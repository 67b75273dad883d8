"""Figures of a comparison as PNG files, made from the runs' files only.

After the figures of arXiv 2510.18053: trajectories of reward against diversity and divergence
(Figure 3), learning curves (Figure 7), pictures of the methods side by side (Figures 1, 2, 5, 6),
and, where it has been measured, the frontier of best of n. Where the KL of whole samples is known,
the rewards stand over its root, as in arXiv 2210.10760 (Gao et al.).
"""

from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from adrpo.comparison.analysis import Analysis
from adrpo.comparison.canvas import (
    BASE_COLOR,
    DPI,
    NOTE_COLOR,
    STYLE,
    Drawing,
    grid,
    legend,
    save,
    styles_of,
    tell,
)
from adrpo.comparison.collect import Array, Results
from adrpo.comparison.cost_curves import draw_costs
from adrpo.comparison.line_drawing import draw_lines, line_handles, line_note, lines_of
from adrpo.comparison.picture_sheet import draw_pictures
from adrpo.comparison.primary import JUDGES
from adrpo.comparison.reference_lines import BASE
from adrpo.comparison.trade_offs import DIVERSITIES, PRICES
from adrpo.evaluation.best_of_n import BestOfN
from adrpo.evaluation.intervals import standard_error
from adrpo.metrics import SAMPLE_KL, TOTAL, describe

TRAJECTORIES = (
    "Means over seeds at each evaluation, from transparent (early) to a star (final, ± standard "
    "error); small dots are the final policies of single seeds."
)


def draw_all(
    results: Results, analysis: Analysis, best_of_n: BestOfN | None, folder: Path
) -> list[Drawing]:
    """Write the figures to ``folder``; figures without data are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    drawings = []
    for split in results.splits:
        drawings += [
            _trajectories(results, analysis, split, folder / f"trajectories-{split}.png"),
            _fronts(results, analysis, split, folder / f"fronts-{split}.png"),
            _learning_curves(results, analysis, split, folder / f"curves-{split}.png"),
        ]
    unseen = results.splits[0]
    costs = folder / f"costs-{unseen}.png"
    rewards = _rewards(results, analysis, unseen)
    drawings.append(draw_costs(results, rewards, unseen, costs, analysis.title))
    over_kl = _rewards_over_kl(results, analysis, best_of_n, folder / "rewards-over-kl.png")
    if over_kl is not None:
        drawings.append(over_kl)
    elif best_of_n is not None:
        drawings.append(_best_of_n(analysis, best_of_n, folder / "best-of-n.png"))
    drawings.append(draw_pictures(results, folder / "pictures.png"))
    return [drawing for drawing in drawings if drawing is not None]


def _labels(metrics: Iterable[str]) -> list[str]:
    return [describe(metric).label for metric in metrics]


def _rewards(results: Results, analysis: Analysis, split: str) -> list[str]:
    """The primary metric and the first metric that was trained on."""
    known = _shared_curves(results, split)
    wanted = [analysis.primary, *analysis.trained_on[:1]]
    return [metric for metric in dict.fromkeys(wanted) if metric in known]


def _shared_curves(results: Results, split: str) -> set[str]:
    """Metrics of which every method has a value."""
    parts = [method.splits[split].curves for method in results.methods.values()]
    return set.intersection(
        *({name for name, curve in part.items() if np.isfinite(curve).any()} for part in parts)
    )


def _trajectories(results: Results, analysis: Analysis, split: str, path: Path) -> Drawing | None:
    prices = _panels(results, analysis, split, path, whole=False)
    if not prices:
        return None
    lines = f" {line_note(analysis)} It may leave a panel." if lines_of(analysis, split) else ""
    return Drawing(
        path,
        f"Trajectories, {split} prompts",
        f"{TRAJECTORIES} Up is more reward; right is more diversity or entropy on the left panels, "
        f"more divergence on the right ones.{lines}",
        f"Reward against {' and '.join(_labels(prices))} for {len(results.methods)} methods.",
    )


def _fronts(results: Results, analysis: Analysis, split: str, path: Path) -> Drawing | None:
    """The trajectories once more, at the scale of the lines."""
    if not lines_of(analysis, split):
        return None
    prices = _panels(results, analysis, split, path, whole=True)
    if not prices:
        return None
    return Drawing(
        path,
        f"Methods and the untrained base, {split} prompts",
        f"The trajectories with all of the lines, divergences on the scale of their root. "
        f"{line_note(analysis)}",
        f"Reward against {' and '.join(_labels(prices))} for {len(results.methods)} methods, the "
        "guided base and best of n.",
    )


def _panels(
    results: Results, analysis: Analysis, split: str, path: Path, *, whole: bool
) -> list[str]:
    """Draw a panel for each reward and price, and return the prices; ``whole`` shows all of the
    reference lines, otherwise the panels end where the methods do."""
    rewards = _rewards(results, analysis, split)
    known = _shared_curves(results, split)
    prices = [price for price in (*DIVERSITIES, *PRICES) if price in known]
    if not rewards or not prices:
        return []
    styles = styles_of(list(results.methods), results.plan.reference)
    with mpl.rc_context(STYLE):
        figure, axes = grid(len(rewards), len(prices), width=4.9, height=3.7)
        for row, reward in enumerate(rewards):
            for column, price in enumerate(prices):
                panel = axes[row][column]
                for name, method in results.methods.items():
                    curves = method.splits[split].curves
                    x, y = _trajectory(panel, curves[price], curves[reward], *styles[name])
                    tell(panel, name, method.splits[split].steps[1:], x[1:], y[1:])
                _base_point(panel, results, split, price, reward)
                limits = panel.axis()
                draw_lines(panel, analysis, split, price, reward)
                if not whole:
                    panel.axis(limits)
                    panel.xaxis.set_major_locator(MaxNLocator(6))
                elif price in PRICES:
                    panel.set_xscale("function", functions=(_signed_root, _signed_square))
                    panel.xaxis.set_major_locator(MaxNLocator(4))
                panel.set_xlabel(describe(price).label)
                panel.set_ylabel(analysis.title(reward))
        legend(figure, styles, base=True, lines=line_handles(lines_of(analysis, split)))
        save(figure, path)
    return prices


def _signed_root(x: Array) -> Array:
    """The root, and its mirror image left of 0, where a panel's margin lies."""
    return np.sign(x) * np.sqrt(np.abs(x))


def _signed_square(x: Array) -> Array:
    return np.sign(x) * np.square(x)


def _trajectory(
    panel: Axes, price: Array, reward: Array, color: str, marker: str
) -> tuple[Array, Array]:
    """Draw one method's means over seeds of ``price`` and ``reward`` [seeds, evaluations], and
    return them; the first, the base's, has its own point."""
    x, y = np.nanmean(price, axis=0), np.nanmean(reward, axis=0)
    panel.plot(x, y, color=color, alpha=0.35, lw=1.1)
    shades = np.linspace(0.25, 0.9, len(x))
    for place in range(1, len(x) - 1):
        panel.plot(x[place], y[place], marker, color=color, alpha=shades[place], ms=5, mew=0)
    panel.plot(price[:, -1], reward[:, -1], ".", color=color, alpha=0.35, ms=4, mew=0)
    across, along = standard_error(price[:, -1]), standard_error(reward[:, -1])
    panel.errorbar(x[-1], y[-1], xerr=across, yerr=along, color=color, lw=1, zorder=4)
    panel.plot(x[-1], y[-1], "*", color=color, ms=13, mec="white", mew=0.7, zorder=5)
    return x, y


def _base_point(panel: Axes, results: Results, split: str, price: str, reward: str) -> None:
    curves = results.methods[results.plan.reference].splits[split].curves
    point = [np.nanmean(curves[price][:, 0]), np.nanmean(curves[reward][:, 0])]
    panel.plot(*point, "P", color=BASE_COLOR, ms=8, mec="white", mew=0.7, zorder=6)
    tell(panel, BASE, [0], *np.array(point, dtype=float).reshape(2, 1))


def _learning_curves(
    results: Results, analysis: Analysis, split: str, path: Path
) -> Drawing | None:
    wanted = [*_rewards(results, analysis, split), *JUDGES, *DIVERSITIES, *PRICES]
    known = _shared_curves(results, split)
    metrics = [metric for metric in dict.fromkeys(wanted) if metric in known]
    if not metrics:
        return None
    styles = styles_of(list(results.methods), results.plan.reference)
    columns = min(3, len(metrics))
    with mpl.rc_context(STYLE):
        figure, axes = grid(-(-len(metrics) // columns), columns, width=3.5, height=2.7)
        panels = [panel for row in axes for panel in row]
        for panel, metric in zip(panels, metrics, strict=False):
            for name, method in results.methods.items():
                part = method.splits[split]
                values, (color, marker) = part.curves[metric], styles[name]
                mean = np.nanmean(values, axis=0)
                if len(values) > 1:
                    error = np.array([standard_error(column) for column in values.T])
                    panel.fill_between(
                        part.steps, mean - error, mean + error, color=color, alpha=0.15, lw=0
                    )
                panel.plot(part.steps, mean, color=color, marker=marker, ms=3.5)
                tell(panel, name, part.steps, np.array(part.steps), mean)
            panel.set_title(analysis.title(metric), fontsize=10, loc="left")
            panel.set_xlabel("step")
            panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        for panel in panels[len(metrics) :]:
            panel.set_axis_off()
        legend(figure, styles)
        save(figure, path)
    return Drawing(
        path,
        f"Learning curves, {split} prompts",
        "Means over seeds at the evaluations; bands are ± one standard error over seeds.",
        f"Learning curves of {', '.join(_labels(metrics))}.",
    )


def _rewards_over_kl(
    results: Results, analysis: Analysis, best: BestOfN | None, path: Path
) -> Drawing | None:
    """The reward that is trained on (the proxy) and the primary metric (gold) over sqrt(KL), on one
    scale: as changes from the base, in standard deviations of the base's samples."""
    unseen = results.splits[0]
    known = _shared_curves(results, unseen)
    base = results.methods[results.plan.reference].splits[unseen].base
    rewards = [metric for metric in dict.fromkeys((TOTAL, analysis.primary)) if metric in known]
    if SAMPLE_KL not in known or not rewards:
        return None
    if np.array_equal(base[rewards[0]], base[rewards[-1]], equal_nan=True):
        # Gold itself is trained on.
        rewards = rewards[:1]
    styles = styles_of(list(results.methods), results.plan.reference)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.9 * len(rewards), 4.15), dpi=DPI, layout="constrained")
        axes = figure.subplots(1, len(rewards), squeeze=False, sharey=True)
        for panel, metric in zip(axes[0], rewards, strict=True):
            # A base that is always wrong has no spread: its changes stay in the metric's unit.
            location = float(np.nanmean(base[metric][0]))
            scale = float(np.nanstd(base[metric][0])) or 1.0
            for name, method in results.methods.items():
                curves = method.splits[unseen].curves
                gain, kl = (curves[metric] - location) / scale, np.sqrt(curves[SAMPLE_KL])
                x, y = _trajectory(panel, kl, gain, *styles[name])
                tell(panel, name, method.splits[unseen].steps[1:], x[1:], y[1:])
            if best is not None and metric in best.metrics:
                _frontier(panel, best, np.sqrt(best.kl), metric, location, scale)
            panel.plot(0, 0, "P", color=BASE_COLOR, ms=8, mec="white", mew=0.7, zorder=6)
            tell(panel, BASE, [0], *np.zeros((2, 1)))
            panel.set_xlabel("√KL to the base, √nats")
            panel.set_title(analysis.title(metric), fontsize=10, loc="left")
        axes[0][0].set_ylabel("change, standard deviations of the base")
        legend(figure, styles, base=True)
        save(figure, path)
    frontier = " Black: best of n of the base, with 95 % intervals over prompts." if best else ""
    return Drawing(
        path,
        "Rewards over √KL",
        "Means over seeds at each evaluation, from transparent (early) to a star (final, ± "
        "standard error), as changes from the base in standard deviations of its samples. Where "
        f"what is trained on rises and gold falls, the reward is over-optimised.{frontier}",
        f"{' and '.join(_labels(rewards))} of {len(results.methods)} methods over the root of "
        "the KL to the base.",
    )


def _frontier(
    panel: Axes, best: BestOfN, x: Array, metric: str, location: float = 0.0, scale: float = 1.0
) -> None:
    """Best of n of a metric, in black, as (value - location) / scale at ``x``."""
    table = np.array([(one.mean, one.low, one.high) for one in best.metrics[metric]])
    means, lows, highs = ((table - location) / scale).T
    panel.fill_between(x, lows, highs, color=BASE_COLOR, alpha=0.12, lw=0)
    panel.plot(x, means, "o-", color=BASE_COLOR, ms=4)
    for n, place, mean in zip(best.n, x, means, strict=True):
        panel.annotate(f"n={n}", (place, mean), textcoords="offset points", xytext=(4, -10),
                       fontsize=7.5, color=NOTE_COLOR)  # fmt: skip


def _best_of_n(analysis: Analysis, best: BestOfN, path: Path) -> Drawing | None:
    """The frontier against its exact KL, with the trained methods' values as lines."""
    wanted = [analysis.primary, *analysis.trained_on[:1], *DIVERSITIES]
    metrics = [metric for metric in dict.fromkeys(wanted) if metric in best.metrics]
    if not metrics:
        return None
    unseen = analysis.splits[0]
    colors = styles_of(list(unseen.final), analysis.reference)
    styles = {name: (color, "") for name, (color, _) in colors.items()}
    with mpl.rc_context(STYLE):
        figure, axes = grid(1, len(metrics), width=3.7, height=3.1)
        for panel, metric in zip(axes[0], metrics, strict=True):
            _frontier(panel, best, np.array(best.kl), metric)
            for name, (color, _) in styles.items():
                if metric in unseen.final[name]:
                    panel.axhline(
                        unseen.final[name][metric].mean, color=color, ls=(0, (4, 2)), lw=1.3
                    )
            panel.set_xlabel("KL of best of n to the base, nats")
            panel.set_title(analysis.title(metric), fontsize=10, loc="left")
        legend(figure, styles)
        save(figure, path)
    return Drawing(
        path,
        "Best of n",
        "Black: the base's best of n samples by the training reward, with 95 % intervals over "
        "prompts. Dashed: the trained methods, whose KL is not known, so only heights compare.",
        f"Best-of-n frontier of {', '.join(_labels(metrics))}.",
    )

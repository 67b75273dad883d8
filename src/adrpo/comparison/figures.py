"""Figures of a comparison as PNG files, made from the runs' files only.

After the figures of arXiv 2510.18053: trajectories of reward against diversity and divergence
(Figure 3), learning curves (Figure 7), pictures of the methods side by side (Figures 1, 2, 5, 6),
and, where it has been measured, the frontier of best of n. Where the KL of whole samples is known,
the rewards stand over its root, as in arXiv 2210.10760 (Gao et al.).
"""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from PIL import Image

from adrpo.comparison.analysis import Analysis
from adrpo.comparison.collect import TOTAL, Array, Results, read_listing
from adrpo.comparison.trade_offs import DIVERGENCES, DIVERSITIES
from adrpo.evaluation.across_seeds import standard_error
from adrpo.evaluation.best_of_n import BestOfN
from adrpo.report.summary import IN_SENTENCE, METRICS

DPI = 150
PICTURED_PROMPTS = 6
BLOCK_PIXELS = 160
"""Side of a method's pictures of one prompt in the picture grid."""

GAP_PIXELS = 8

BASE_COLOR = "#1b1c1e"
COLORS = ("#2b5fc9", "#c96a12", "#16877a", "#8a63c9", "#b8336a", "#7d7a1e",
          "#3a9bd9", "#8c4a2f", "#5b6470", "#4d9e3f")  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")

STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.edgecolor": "#b9bbb6",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e9e9e4",
    "xtick.color": "#62656b",
    "ytick.color": "#62656b",
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.6,
    "text.parse_math": False,
}


@dataclass(frozen=True)
class Drawing:
    """A PNG file with what the page says about it."""

    path: Path
    title: str
    note: str
    alt: str


def draw_all(
    results: Results, analysis: Analysis, best_of_n: BestOfN | None, folder: Path
) -> list[Drawing]:
    """Write the figures to ``folder``; figures without data are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    drawings = []
    for split in results.splits:
        drawings += [
            _trajectories(results, analysis, split, folder / f"trajectories-{split}.png"),
            _learning_curves(results, analysis, split, folder / f"curves-{split}.png"),
        ]
    over_kl = _rewards_over_kl(results, analysis, best_of_n, folder / "rewards-over-kl.png")
    if over_kl is not None:
        drawings.append(over_kl)
    elif best_of_n is not None:
        drawings.append(_best_of_n(analysis, best_of_n, folder / "best-of-n.png"))
    drawings.append(_pictures(results, folder / "pictures.png"))
    return [drawing for drawing in drawings if drawing is not None]


def in_sentence(metric: str) -> str:
    """The same within a sentence."""
    return IN_SENTENCE.get(metric, label(metric))


def label(metric: str) -> str:
    """The reader's name of a metric."""
    return METRICS[metric][0] if metric in METRICS else metric.replace("_", " ")


def _styles(results: Results) -> dict[str, tuple[str, str]]:
    """Color and marker of each method; the reference has the first of both."""
    reference = results.plan.reference
    ordered = sorted(results.methods, key=lambda name: name != reference)
    return {
        name: (COLORS[place % len(COLORS)], MARKERS[place % len(MARKERS)])
        for place, name in enumerate(ordered)
    }


def _rewards(results: Results, analysis: Analysis, split: str) -> list[str]:
    """The primary metric and the first metric that was trained on."""
    known = _shared_curves(results, split)
    wanted = [analysis.primary, *analysis.trained_on[:1]]
    return [metric for metric in dict.fromkeys(wanted) if metric in known]


def _shared_curves(results: Results, split: str) -> set[str]:
    return set.intersection(
        *(set(method.splits[split].curves) for method in results.methods.values())
    )


def _trajectories(results: Results, analysis: Analysis, split: str, path: Path) -> Drawing | None:
    rewards = _rewards(results, analysis, split)
    known = _shared_curves(results, split)
    prices = [price for price in (*DIVERSITIES, *DIVERGENCES) if price in known]
    if not rewards or not prices:
        return None
    styles = _styles(results)
    with mpl.rc_context(STYLE):
        figure, axes = _grid(len(rewards), len(prices), width=4.9, height=3.7)
        for row, reward in enumerate(rewards):
            for column, price in enumerate(prices):
                panel = axes[row][column]
                for name, method in results.methods.items():
                    curves = method.splits[split].curves
                    _trajectory(panel, curves[price], curves[reward], *styles[name])
                _base_point(panel, results, split, price, reward)
                panel.set_xlabel(label(price))
                panel.set_ylabel(label(reward))
        _legend(figure, styles, base=True)
        _save(figure, path)
    return Drawing(
        path,
        f"Trajectories, {split} prompts",
        "Means over seeds at each evaluation, from transparent (early) to a star (final, ± "
        "standard error); small dots are the final policies of single seeds. Up is more reward; "
        "right is more diversity or entropy on the left panels, more divergence on the right ones.",
        f"Reward against {' and '.join(map(label, prices))} for {len(results.methods)} methods.",
    )


def _trajectory(panel: Axes, price: Array, reward: Array, color: str, marker: str) -> None:
    """One method's means over seeds of ``price`` and ``reward`` [seeds, evaluations]."""
    x, y = np.nanmean(price, axis=0), np.nanmean(reward, axis=0)
    panel.plot(x, y, color=color, alpha=0.35, lw=1.1)
    shades = np.linspace(0.25, 0.9, len(x))
    for place in range(1, len(x) - 1):
        panel.plot(x[place], y[place], marker, color=color, alpha=shades[place], ms=5, mew=0)
    panel.plot(price[:, -1], reward[:, -1], ".", color=color, alpha=0.35, ms=4, mew=0)
    across, along = standard_error(price[:, -1]), standard_error(reward[:, -1])
    panel.errorbar(x[-1], y[-1], xerr=across, yerr=along, color=color, lw=1, zorder=4)
    panel.plot(x[-1], y[-1], "*", color=color, ms=13, mec="white", mew=0.7, zorder=5)


def _base_point(panel: Axes, results: Results, split: str, price: str, reward: str) -> None:
    curves = results.methods[results.plan.reference].splits[split].curves
    point = [np.nanmean(curves[price][:, 0]), np.nanmean(curves[reward][:, 0])]
    panel.plot(*point, "P", color=BASE_COLOR, ms=8, mec="white", mew=0.7, zorder=6)


def _learning_curves(
    results: Results, analysis: Analysis, split: str, path: Path
) -> Drawing | None:
    wanted = [*_rewards(results, analysis, split), "clip_score_evaluation"]
    wanted += [*DIVERSITIES, *DIVERGENCES]
    known = _shared_curves(results, split)
    metrics = [metric for metric in dict.fromkeys(wanted) if metric in known]
    if not metrics:
        return None
    styles = _styles(results)
    columns = min(3, len(metrics))
    with mpl.rc_context(STYLE):
        figure, axes = _grid(-(-len(metrics) // columns), columns, width=3.5, height=2.7)
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
            panel.set_title(label(metric), fontsize=10, loc="left")
            panel.set_xlabel("step")
            panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        for panel in panels[len(metrics) :]:
            panel.set_axis_off()
        _legend(figure, styles)
        _save(figure, path)
    return Drawing(
        path,
        f"Learning curves, {split} prompts",
        "Means over seeds at the evaluations; bands are ± one standard error over seeds.",
        f"Learning curves of {', '.join(label(metric) for metric in metrics)}.",
    )


def _rewards_over_kl(
    results: Results, analysis: Analysis, best: BestOfN | None, path: Path
) -> Drawing | None:
    """What is trained on (the proxy) and the primary metric (gold) over sqrt(KL), on one scale:
    as changes from the base, in standard deviations of the base's samples."""
    unseen = results.splits[0]
    known = _shared_curves(results, unseen)
    base = results.methods[results.plan.reference].splits[unseen].base
    rewards = [metric for metric in dict.fromkeys((TOTAL, analysis.primary)) if metric in known]
    if "kl" not in known or not rewards:
        return None
    if np.array_equal(base[rewards[0]], base[rewards[-1]], equal_nan=True):
        # Gold itself is trained on.
        rewards = rewards[:1]
    styles = _styles(results)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.9 * len(rewards), 4.15), dpi=DPI, layout="constrained")
        axes = figure.subplots(1, len(rewards), squeeze=False, sharey=True)
        for panel, metric in zip(axes[0], rewards, strict=True):
            # A base that is always wrong has no spread: its changes stay in the metric's unit.
            location = float(np.nanmean(base[metric][0]))
            scale = float(np.nanstd(base[metric][0])) or 1.0
            for name, method in results.methods.items():
                curves = method.splits[unseen].curves
                gain = (curves[metric] - location) / scale
                _trajectory(panel, np.sqrt(curves["kl"]), gain, *styles[name])
            if best is not None and metric in best.metrics:
                _frontier(panel, best, np.sqrt(best.kl), metric, location, scale)
            panel.plot(0, 0, "P", color=BASE_COLOR, ms=8, mec="white", mew=0.7, zorder=6)
            panel.set_xlabel("√KL to the base, √nats")
            panel.set_title(label(metric), fontsize=10, loc="left")
        axes[0][0].set_ylabel("change, standard deviations of the base")
        _legend(figure, styles, base=True)
        _save(figure, path)
    frontier = " Black: best of n of the base, with 95 % intervals over prompts." if best else ""
    return Drawing(
        path,
        "Rewards over √KL",
        "Means over seeds at each evaluation, from transparent (early) to a star (final, ± "
        "standard error), as changes from the base in standard deviations of its samples. Where "
        f"what is trained on rises and gold falls, the reward is over-optimised.{frontier}",
        f"{' and '.join(map(label, rewards))} of {len(results.methods)} methods over the root of "
        "the KL to the base.",
    )


def _frontier(
    panel: Axes, best: BestOfN, x: Array, metric: str, location: float = 0.0, scale: float = 1.0
) -> None:
    """Best of n of a metric, in black, as (value - location) / scale at ``x``."""
    table = np.array([tuple(interval) for interval in best.metrics[metric]])
    means, lows, highs = ((table - location) / scale).T
    panel.fill_between(x, lows, highs, color=BASE_COLOR, alpha=0.12, lw=0)
    panel.plot(x, means, "o-", color=BASE_COLOR, ms=4)
    for n, place, mean in zip(best.n, x, means, strict=True):
        panel.annotate(f"n={n}", (place, mean), textcoords="offset points", xytext=(4, -10),
                       fontsize=7.5, color="#62656b")  # fmt: skip


def _best_of_n(analysis: Analysis, best: BestOfN, path: Path) -> Drawing | None:
    """The frontier against its exact KL, with the trained methods' values as lines."""
    wanted = [analysis.primary, *analysis.trained_on[:1], *DIVERSITIES]
    metrics = [metric for metric in dict.fromkeys(wanted) if metric in best.metrics]
    if not metrics:
        return None
    unseen = analysis.splits[0]
    names = sorted(unseen.final, key=lambda name: name != analysis.reference)
    styles = {name: (COLORS[place % len(COLORS)], "") for place, name in enumerate(names)}
    with mpl.rc_context(STYLE):
        figure, axes = _grid(1, len(metrics), width=3.7, height=3.1)
        for panel, metric in zip(axes[0], metrics, strict=True):
            _frontier(panel, best, np.array(best.kl), metric)
            for name, (color, _) in styles.items():
                if metric in unseen.final[name]:
                    panel.axhline(
                        unseen.final[name][metric].mean, color=color, ls=(0, (4, 2)), lw=1.3
                    )
            panel.set_xlabel("KL of best of n to the base, nats")
            panel.set_title(label(metric), fontsize=10, loc="left")
        _legend(figure, styles)
        _save(figure, path)
    return Drawing(
        path,
        "Best of n",
        "Black: the base's best of n images by the training reward, with 95 % intervals over "
        "prompts. Dashed: the trained methods, whose KL is not known, so only heights compare.",
        f"Best-of-n frontier of {', '.join(label(metric) for metric in metrics)}.",
    )


def _pictures(results: Results, path: Path) -> Drawing | None:
    """Prompt x method, from each method's first seed; the same noises along a row."""
    folders = {name: method.folders[0] for name, method in results.methods.items()}
    first = folders[results.plan.reference]
    prompts = [str(item["prompt"]) for item in read_listing(first)["held_out"]][:PICTURED_PROMPTS]
    columns = {"base": first / "samples" / "base"}
    columns |= {name: folder / "samples" / "final" for name, folder in folders.items()}
    if not any(columns["base"].glob("*.png")):
        return None
    # One picture of all: hundreds of axes would take a minute to lay out.
    pitch = BLOCK_PIXELS + GAP_PIXELS
    sheet = Image.new("RGB", (pitch * len(columns), pitch * len(prompts)), "white")
    for row in range(len(prompts)):
        for column, folder in enumerate(columns.values()):
            sheet.paste(_block(folder, row), (column * pitch, row * pitch))
    style: dict[Any, Any] = {**STYLE, "axes.grid": False, "xtick.labeltop": True}
    with mpl.rc_context(style):
        figure, axes = _grid(1, 1, width=1.2 * len(columns) + 1.6, height=1.2 * len(prompts) + 0.3)
        panel = axes[0][0]
        panel.imshow(sheet)
        centers = [BLOCK_PIXELS / 2 + pitch * place for place in range(len(columns))]
        panel.set_xticks(centers, [textwrap.fill(name, 15) for name in columns], fontsize=8.5)
        panel.tick_params(labelbottom=False, labelcolor=BASE_COLOR)
        panel.set_yticks(
            [BLOCK_PIXELS / 2 + pitch * place for place in range(len(prompts))],
            [textwrap.fill(prompt, 24) for prompt in prompts],
            fontsize=8.5,
        )
        for spine in panel.spines.values():
            spine.set_visible(False)
        _save(figure, path)
    return Drawing(
        path,
        "Pictures",
        f"Held-out prompts, seed {results.seeds[0]}; pictures at the same place start from the "
        "same noise.",
        f"Pictures of the base and {len(results.methods)} methods for {len(prompts)} prompts.",
    )


def _block(folder: Path, prompt: int) -> Image.Image:
    """Up to four pictures of a prompt as a square."""
    files = sorted(folder.glob(f"{prompt:02d}-*.png"))[:4]
    columns = 1 if len(files) == 1 else 2
    side = BLOCK_PIXELS // columns
    block = Image.new("RGB", (BLOCK_PIXELS, BLOCK_PIXELS), "white")
    for place, file in enumerate(files):
        with Image.open(file) as picture:
            method = (
                Image.Resampling.NEAREST if max(picture.size) <= side else Image.Resampling.LANCZOS
            )
            shown = picture.convert("RGB").resize((side - 2, side - 2), method)
        block.paste(shown, (place % columns * side, place // columns * side))
    return block


def _grid(rows: int, columns: int, *, width: float, height: float) -> tuple[Figure, Any]:
    """A figure of panels of ``width`` x ``height`` inches."""
    size = (width * columns, height * rows + 0.45)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _legend(figure: Figure, styles: dict[str, tuple[str, str]], *, base: bool = False) -> None:
    handles = [
        Line2D([], [], color=color, marker=marker or None, ls="-" if marker else "--", label=name)
        for name, (color, marker) in styles.items()
    ]
    if base:
        handles.insert(0, Line2D([], [], color=BASE_COLOR, marker="P", ls="", label="base"))
    figure.legend(handles=handles, loc="outside upper left", ncols=_columns(styles), frameon=False)


def _columns(names: Sequence[str] | dict[str, Any]) -> int:
    """Entries of a legend's row: all of a few methods, half of many."""
    return len(names) + 1 if len(names) <= 4 else -(-(len(names) + 1) // 2)


def _save(figure: Figure, path: Path) -> None:
    # Neither date nor version: equal runs give equal files.
    save: Callable[..., None] = FigureCanvasAgg(figure).print_png
    save(path, metadata={"Software": None})

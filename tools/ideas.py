"""Pictures of docs/start/ideas.md, each computed by the functions that training uses.

python -m tools.ideas      writes docs/start/*.svg again
"""

import argparse
from pathlib import Path

import matplotlib
import torch
from torch import Tensor

from adrpo import adaptive_coefficient, clip_advantages, flow_objective, flow_target, token_kl
from adrpo.flow.path import mixture
from adrpo.flow.path.samplers import euler

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

FOLDER = Path(__file__).parents[1] / "docs" / "start"
BLUE, ORANGE, GREEN, GREY = "#2f6db3", "#d0661b", "#2f8a4c", "#8a8a8a"
ROUNDS, REACH = 4, 5
STYLE = {
    "svg.fonttype": "none",  # words stay words: they can be searched, and take the page's font
    "svg.hashsalt": "adrpo",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
}


def loop() -> Figure:
    """The four parts of a step, each with what it gives to the next."""
    figure, axes = plt.subplots(figsize=(8.2, 2.0))
    parts = (
        ("sample", "the policy draws\n8 pictures of a prompt"),
        ("score", "the reward R\nof each picture"),
        ("weigh", "A = R - mean R,\nβ = β₀ - A"),
        ("update", "one gradient step\nof the adapter"),
    )
    for place, (name, text) in enumerate(parts):
        left = place * 2.1
        axes.add_patch(plt.Rectangle((left, 0), 1.7, 1, fill=False, edgecolor=BLUE, linewidth=1.5))
        axes.text(left + 0.85, 0.76, name, ha="center", va="center", weight="bold", color=BLUE)
        axes.text(left + 0.85, 0.34, text, ha="center", va="center", fontsize=8)
        if place:
            axes.annotate(
                "", (left, 0.5), (left - 0.4, 0.5), arrowprops={"arrowstyle": "->", "color": GREY}
            )
    axes.annotate(
        "", (0.85, 0), (7.15, 0),
        arrowprops={"arrowstyle": "->", "color": GREY, "connectionstyle": "arc3,rad=-0.14"},
    )  # fmt: skip
    axes.text(4, -0.62, "the moved policy draws the next step's pictures", ha="center", fontsize=9)
    axes.set(xlim=(-0.1, 8.1), ylim=(-0.75, 1.05))
    axes.axis("off")
    return figure


def coefficient() -> Figure:
    """Strength of the penalty over the advantage: of pictures, and of completions."""
    figure, (pictures, completions) = plt.subplots(1, 2, figsize=(8.2, 3.0))
    advantages = torch.linspace(-2.2, 2.2, 441)
    adaptive = adaptive_coefficient(advantages, beta_0=1.0, clip=(-1.0, 1.0))
    pictures.plot(advantages, adaptive, color=BLUE, label="adaptive: β₀ - A, A clipped to ±1")
    pictures.axhline(1.0, color=ORANGE, label="fixed: β₀")
    pictures.set(title="pictures (β₀ = 1)", xlabel="advantage A", ylabel="penalty β")
    narrow = adaptive_coefficient(advantages, beta_0=0.04, clip=(-0.04, 0.04))
    completions.plot(advantages, narrow, color=BLUE)
    completions.axhline(0.04, color=ORANGE)
    completions.set(title="completions (β₀ = 0.04, A of GRPO)", xlabel="advantage A")
    for axes in (pictures, completions):
        axes.set_ylim(bottom=0)
    figure.legend(loc="lower center", ncol=2, frameon=False)
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    return figure


def targets() -> Figure:
    """Loss of one sample along the line from the reference's velocity to the sample's, with its
    minimum, for a good, a middling and a bad sample."""
    figure, panels = plt.subplots(1, 2, figsize=(8.2, 3.2), sharey=True)
    v = torch.linspace(-2, 2, 201)[:, None]
    u_t, v_ref = torch.ones_like(v), torch.zeros_like(v)
    samples = ((0.8, GREEN, "good"), (0.0, GREY, "middling"), (-0.8, ORANGE, "bad"))
    for advantage, color, name in samples:
        advantages = torch.full((len(v),), advantage)
        adaptive = adaptive_coefficient(advantages, beta_0=0.5, clip=None)
        for axes, beta in zip(panels, (adaptive, 0.5), strict=True):
            loss = flow_objective(v, u_t, v_ref, advantages, beta=beta)
            axes.plot(v[:, 0], loss, color=color, label=f"{name}, A = {advantage:+.1f}")
        target = flow_target(u_t, v_ref, advantages, beta_0=0.5)[:1]
        least = flow_objective(target, u_t[:1], v_ref[:1], advantages[:1], beta=adaptive[:1])
        panels[0].plot(target, least, "o", color=color)
    panels[0].set(title="adaptive: all curve alike", ylabel="loss of the sample")
    panels[1].set(title="fixed: a bad sample's falls without end")
    for axes in panels:
        axes.set(ylim=(-2.6, 3.4), xticks=(0, 1), xticklabels=("reference", "sample"))
        axes.set_xlabel("velocity v")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=3, frameon=False)
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    return figure


def ring() -> Figure:
    """Samples of a flow that is known exactly, and of what three penalties make of it when every
    policy learns all that its samples teach, ``ROUNDS`` times."""
    figure, panels = plt.subplots(1, 4, figsize=(8.2, 2.5), sharex=True, sharey=True)
    base = mixture.ring()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(500, 2, generator=generator, dtype=torch.float64)
    first = mixture.sample_mixture(base, 500, generator)
    _scatter(panels[0], first, "the base", GREY)
    for axes, beta_0, clip, color in (
        (panels[1], 2.0, 1.0, BLUE),
        (panels[2], 0.5, 0.5, GREEN),
        (panels[3], 0.5, 1.0, ORANGE),
    ):
        samples = first
        for _ in range(ROUNDS):
            samples = _learned(base, samples, noise, beta_0, clip)
        _scatter(axes, samples, f"β₀ = {beta_0:g}, A to ±{clip:g}", color)
    figure.tight_layout()
    return figure


def _learned(
    base: mixture.Mixture, samples: Tensor, noise: Tensor, beta_0: float, clip: float
) -> Tensor:
    """Samples of the policy that minimises ADRPO's loss over ``samples``; the reward is x."""
    rewards = samples[:, 0]
    advantages = clip_advantages(rewards - rewards.mean(), low=-clip, high=clip)
    equal = torch.full_like(rewards, 1 / len(rewards))

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        v_ref = mixture.path_velocity(base, x, t)
        return mixture.adrpo_minimiser(
            x, t, v_ref, x_1=samples, weights=equal, advantages=advantages, beta_0=beta_0
        )

    return euler(velocity, noise, torch.linspace(0, 1, 21, dtype=torch.float64))


def _scatter(axes: Axes, samples: Tensor, title: str, color: str) -> None:
    inside = samples.abs().amax(1) < REACH
    axes.plot(*samples[inside].T.numpy(), ".", color=color, markersize=2.5)
    axes.set_title(f"{title}\nmean reward {samples[:, 0].mean():.2f}", fontsize=9)
    if not inside.all():
        axes.set_xlabel(f"{1 - inside.double().mean():.0%} beyond the frame", fontsize=8)
    axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", xticks=(), yticks=())
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.axvline(0, color="#dddddd", zorder=0)


def estimators() -> Figure:
    """Three estimates of a token's divergence over its log-ratio."""
    figure, axes = plt.subplots(figsize=(5.2, 3.0))
    ratios = torch.linspace(-2, 2, 201)
    for name, color in (("k1", GREY), ("k2", ORANGE), ("k3", BLUE)):
        values = token_kl(ratios[:, None], torch.zeros_like(ratios)[:, None], estimator=name)
        axes.plot(ratios, values[:, 0], color=color, label=name)
    axes.set(xlabel="log π - log π_ref of the token", ylabel="estimate in nats", ylim=(-2, 4.5))
    axes.axhline(0, color="#dddddd", zorder=0)
    axes.legend(frameon=False)
    figure.tight_layout()
    return figure


PICTURES = (loop, coefficient, targets, ring, estimators)


def draw(folder: Path) -> list[Path]:
    """Write every picture into ``folder``; their files."""
    files = []
    with matplotlib.rc_context(STYLE):
        for picture in PICTURES:
            figure = picture()
            files.append(folder / f"{picture.__name__}.svg")
            figure.savefig(files[-1], metadata={"Date": None})
            plt.close(figure)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=FOLDER)
    print("\n".join(map(str, draw(parser.parse_args().output))))


if __name__ == "__main__":
    main()

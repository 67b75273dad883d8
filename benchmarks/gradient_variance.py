"""The parts of the noise in a step's gradient, and the ways to have less of it.

``python benchmarks/gradient_variance.py [--batches 12] [--after 20] [--output FOLDER]``

``flow/verifiable`` is trained for a few steps. Then further batches of images are drawn, none is
learned from, and the step's gradient is taken on each in many ways: more or fewer points (t, noise)
of an image, the same points for all images of a prompt, each noise beside its negative, points of
one stretch of time alone; twice each, with other points. Gradients are divided by the root of
Adam's second moment, so that they are in the units in which a step moves. With g_bd the gradient of
batch b with draw d, and B batches,

    signal    mean over b != c of <g_bd, g_cd'>, the squared length of what all batches share
    points    mean of |g_b0 - g_b1|^2 / 2, which other points of the same images would change
    images    what is left of the mean of |g_bd|^2: which images and prompts the batch has
    worth     signal / (points + images), of one batch

The first and the third are of the images and of the distribution of times, whatever the way: they
are means over the ways of one distribution. ``calls`` are those of an image in units of one network
call without a gradient, of which a policy's call counts for three (docs/method/choosing.md).
``gain`` is worth / calls over that of the recipe's own way: how much sooner the same certainty of
direction is paid for. Intervals are the jackknife's over batches, one standard error.

Written to benchmarks/results/gradient_variance/: ``summary.json``, ``table.md`` and
``products.npz``, from which ``--redraw`` makes the two again.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results_folder import markdown, write_results
from torch import Tensor

from adrpo.config import FlowConfig, load_recipe
from adrpo.flow.methods import Weights
from adrpo.flow.path.convention import interpolate, target_velocity
from adrpo.flow.path.path_samples import PathSamples, sample_times
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.flow.training.stopwatch import Stopwatch
from adrpo.flow.training.update import Batch, accumulate_gradient
from adrpo.runs.environment import environment_record
from adrpo.runs.seeding import generator

OUTPUT = Path("benchmarks/results/gradient_variance")
RECIPE = "flow/verifiable"
SETTINGS = (
    "training.learning_rate_schedule=constant",
    "training.learning_rate=2e-3",
    "training.ema_decay=null",
    "algorithm.shared_points=false",
    "sampling.steps=10",
    "sampling.solver=euler",
    "prompts.held_out_size=6",
)
"""Overrides: the recipe as it was before it took what this shows."""
POLICY = 3
"""Calls without a gradient that one of the policy costs."""


@dataclass(frozen=True)
class Way:
    """One way to draw the points of a sample."""

    points: int
    times: str = "logit_normal"
    shared: bool = False
    """The same points for all samples of a prompt."""
    opposite: bool = False
    """Half of the points have the negative noise of the other half, at the same times."""
    stretch: tuple[float, float] | None = None
    """Times are uniform between these alone."""

    def draw(self, x_1: Tensor, group: int, random: torch.Generator) -> PathSamples:
        """Points of ``x_1``, whose samples of a prompt follow each other, ``group`` of each."""
        prompts = len(x_1) // group
        rows = prompts if self.shared else len(x_1)
        own = self.points // 2 if self.opposite else self.points
        if self.stretch is None:
            t = sample_times(rows * own, random, timesteps=own, sampling=self.times)  # type: ignore[arg-type]
        else:
            low, high = self.stretch
            t = low + (high - low) * torch.rand(rows * own, generator=random)
        x_0 = torch.randn((rows * own, *x_1.shape[1:]), generator=random)
        t, x_0 = t.unflatten(0, (rows, own)), x_0.unflatten(0, (rows, own))
        if self.opposite:
            t, x_0 = torch.cat([t, t], dim=1), torch.cat([x_0, -x_0], dim=1)
        if self.shared:
            t, x_0 = (values.repeat_interleave(group, dim=0) for values in (t, x_0))
        t, x_0 = t.flatten(0, 1), x_0.flatten(0, 1)
        x_1 = x_1.repeat_interleave(self.points, dim=0)
        return PathSamples(t=t, x_t=interpolate(x_0, x_1, t), u_t=target_velocity(x_0, x_1))


OWN = "4 points"
WAYS: dict[str, Way] = {
    **{f"{points} point{'s' * (points > 1)}": Way(points) for points in (1, 2, 4, 8)},
    **{f"{points} shared": Way(points, shared=True) for points in (1, 2, 4, 8)},
    "4 opposite": Way(4, opposite=True),
    "4 shared, opposite": Way(4, shared=True, opposite=True),
    "4 stratified": Way(4, "stratified"),
    "4 stratified, shared": Way(4, "stratified", shared=True),
    **{
        f"1 of t in {low / 5:g} to {(low + 1) / 5:g}": Way(1, stretch=(low / 5, (low + 1) / 5))
        for low in range(5)
    },
}


def gradient(
    trainer: FlowTrainer, way: Way, x_1: Tensor, prompt_index: Tensor, weights: Weights, draw: int
) -> Tensor:
    """The step's gradient over the root of Adam's second moment, as one vector."""
    config, points = trainer.config.training, way.points
    path = way.draw(x_1, config.samples_per_prompt, generator(0, "way", draw))
    sample = torch.arange(len(x_1)).repeat_interleave(points)
    batch = Batch(
        path=path,
        conditioning=trainer.prompts.conditioning.select(prompt_index[sample]),
        weights=weights.select(sample),
    )
    accumulate_gradient(
        trainer._velocity,
        trainer.models.anchor,
        trainer.method,
        batch,
        micro_batch=config.micro_batch_size,
        stopwatch=Stopwatch(trainer.device),
    )
    parts = []
    for parameter in trainer.policy.adapter_parameters():
        second = trainer.optimizer.state[parameter]["exp_avg_sq"]
        assert parameter.grad is not None
        parts.append((parameter.grad / (second.sqrt() + 1e-12)).flatten())
        parameter.grad = None
    return torch.cat(parts)


def measure(config: FlowConfig, batches: int, after: int) -> dict[str, np.ndarray]:
    """Way -> the products <g_bd, g_cd'> of all its gradients, [batches, 2, batches, 2]."""
    trainer = FlowTrainer(config)
    for step in range(1, after + 1):
        trainer.step(step)
    found: dict[str, list[Tensor]] = {name: [] for name in WAYS}
    for number in range(batches):
        step = after + 1 + number
        prompt_index, groups = trainer.chosen_prompts(step)
        x_1, images = trainer._sample(step, prompt_index)
        result = trainer.scored(images, prompt_index)
        weights = trainer.method.weigh(trainer.normalizer.of(result, groups), groups, {}, None)
        for name, way in WAYS.items():
            for draw in (2 * number, 2 * number + 1):
                found[name].append(gradient(trainer, way, x_1, prompt_index, weights, draw))
        print(f"batch {number + 1} of {batches}", file=sys.stderr, flush=True)
    products = {}
    for name, gradients in found.items():
        table = torch.stack(gradients).double()
        products[name] = (table @ table.T).numpy().reshape(batches, 2, batches, 2)
    return products


def parts_of(products: np.ndarray) -> dict[str, float]:
    """Signal and noises of products of the batches that are there."""
    batches = len(products)
    between = products.sum(axis=(1, 3)) / 4
    signal = (between.sum() - np.trace(between)) / (batches * (batches - 1))
    own = np.einsum("bdbd->bd", products)
    points = float(np.mean((own.sum(axis=1) - 2 * np.einsum("bb->b", products[:, 0, :, 1])) / 2))
    images = float(own.mean()) - signal - points
    return {"signal": float(signal), "points": points, "images": images}


def told(products: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Way -> its parts, pooled over the ways of its distribution of times, and its worth."""
    found = {name: parts_of(own) for name, own in products.items()}
    alike: dict[Any, list[str]] = {}
    for name in found:
        alike.setdefault((WAYS[name].times, WAYS[name].stretch), []).append(name)
    for names in alike.values():
        for part in ("signal", "images"):
            mean = float(np.mean([found[name][part] for name in names]))
            for name in names:
                found[name][part] = mean
    for own in found.values():
        own["worth"] = own["signal"] / (own["points"] + own["images"])
    return found


def gains(products: dict[str, np.ndarray], calls: dict[str, int]) -> dict[str, float]:
    """Way -> worth / calls over that of OWN."""
    found = told(products)
    own = found[OWN]["worth"] / calls[OWN]
    return {name: parts["worth"] / calls[name] / own for name, parts in found.items()}


def rows_of(products: dict[str, np.ndarray], sampling_steps: int) -> list[dict[str, Any]]:
    """One row for each way."""
    calls = {name: sampling_steps + way.points * (POLICY + 1) for name, way in WAYS.items()}
    batches = range(len(products[OWN]))
    left_out = []
    for gone in batches:
        kept = [number for number in batches if number != gone]
        part = {name: own[np.ix_(kept, [0, 1], kept, [0, 1])] for name, own in products.items()}
        left_out.append(gains(part, calls))
    whole, parts = gains(products, calls), told(products)
    rows = []
    for name in products:
        spread = np.std([one[name] for one in left_out]) * np.sqrt(len(batches) - 1)
        row = {"way": name, "calls": calls[name], **parts[name], "gain": whole[name]}
        rows.append(row | {"gain_standard_error": float(spread)})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    heads = ["way", "calls", "signal", "noise of points", "noise of images", "worth", "gain"]
    shown = []
    for row in rows:
        cells = [row["way"], str(row["calls"])]
        cells += [f"{row[key]:,.0f}" for key in ("signal", "points", "images")]
        gain = f"{row['gain']:.2f} ± {row['gain_standard_error']:.2f}"
        shown.append([*cells, f"{row['worth']:.4f}", gain])
    return markdown(heads, shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--after", type=int, default=20)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--redraw", action="store_true", help="from what is kept")
    parser.add_argument("settings", nargs="*", help="section.key=value")
    arguments = parser.parse_args()
    environment = environment_record()
    config = load_recipe(RECIPE, [*SETTINGS, *arguments.settings])
    assert isinstance(config, FlowConfig)
    file = arguments.output / "products.npz"
    if arguments.redraw:
        environment = json.loads((arguments.output / "summary.json").read_text())["environment"]
        with np.load(file) as kept:
            products = dict(zip(WAYS, kept["products"], strict=True))
    else:
        products = measure(config, arguments.batches, arguments.after)
        arguments.output.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(file, products=np.stack([products[name] for name in WAYS]))
    rows = rows_of(products, config.sampling.steps)
    write_results(arguments.output, {"rows": rows}, table(rows), environment)


if __name__ == "__main__":
    main()

"""Fact 4 of docs/method/equations.md where everything is known: eight Gaussian modes on a ring.

``python benchmarks/mixture.py [--output benchmarks/results/mixture] [--redraw]``

The base generates the ring of ``adrpo.flow.path.mixture`` (eight equal modes, radius 2, std 0.3) by
its exact velocity. The policy is that velocity plus a small network whose last layer starts at 0,
so that v = v_ref at first. One prompt, one group: 256 samples a step, reward the x coordinate. Each
setting is trained with five seeds for 300 steps; the rest is computed, not trained:

    first       mean reward under v* = v_ref + E[A (u_t - v_ref) | x_t] / beta_0, by quadrature over
                the base's samples: the minimiser of the first outer step
    repeated    the same minimiser over its own samples, again and again (4096 of them)
    tilt        p_1(x) exp(d x) / Z for growing d: the least KL divergence at each mean reward

Written: ``rows.jsonl`` (every evaluation), ``summary.json`` (setting -> metric -> mean over seeds
with a 95 % interval, at the last step), ``table.md``, and ``mixture.png``. ``--redraw`` trains and
computes nothing and makes the intervals and the table again from the rows.
"""

import argparse
import copy
import functools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from mixture_figure import draw
from mixture_table import rounded, summarise, table
from torch import Tensor, nn

from adrpo.core import (
    adaptive_coefficient,
    clip_advantages,
    flow_objective,
    group_advantages,
    velocity_divergence,
)
from adrpo.core.advantages import AdvantageScale
from adrpo.flow.path.mixture import (
    adrpo_minimiser,
    path_velocity,
    quadrature_grid,
    reward_tilted,
    ring,
    sample_mixture,
)
from adrpo.flow.path.path_samples import sample_path
from adrpo.flow.path.samplers import Velocity, euler
from adrpo.runs.environment import environment_record

SEEDS = range(5)
STEPS = 300
EVERY = 10
BATCH = 256
LEARNING_RATE = 2e-3
MAX_GRAD_NORM = 1.0
ANCHOR_DECAY = 0.95

RING = ring(dtype=torch.float32)
SOLVER_TIMES = torch.linspace(0, 1, 21)
SPACING = 0.05
"""Step of the quadrature grid; (1 - t) / t is 0.053 at the last time the solver evaluates."""

EVALUATED = 2048
EVALUATION_SEED = 1234
ALIVE = 0.01
NEAR = 4.0
"""A sample belongs to its nearest mode within this many standard deviations."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The weight of the divergence: anchor of v_ref, beta_0 and the clip of A to [-clip, clip]."""

    name: str
    anchor: Literal["base", "ema", "none"] = "base"
    beta_0: float
    clip: float = 1.0
    adaptive: bool = True
    scale: AdvantageScale = "none"

    def coefficient(self, advantages: Tensor) -> Tensor:
        """beta: beta_0 - A, beta_0 for all, or 0 without an anchor."""
        if self.anchor == "none":
            return torch.zeros_like(advantages)
        if not self.adaptive:
            return torch.full_like(advantages, self.beta_0)
        return adaptive_coefficient(advantages, beta_0=self.beta_0, clip=None)


SETTINGS = (
    Setting(name="base anchor, beta_0 = 2", beta_0=2.0),
    Setting(name="base anchor, beta_0 = 1", beta_0=1.0),
    Setting(name="base anchor, beta_0 = 0.5, clip 0.5", beta_0=0.5, clip=0.5),
    Setting(name="base anchor, beta_0 = 0.5, clip 1", beta_0=0.5),
    Setting(name="EMA anchor, beta_0 = 2", anchor="ema", beta_0=2.0),
    Setting(name="EMA anchor, beta_0 = 1", anchor="ema", beta_0=1.0),
    Setting(
        name="EMA anchor, beta_0 = 0.3, clip 2 std",
        anchor="ema",
        beta_0=0.3,
        clip=2.0,
        scale="batch",
    ),
    Setting(name="fixed beta = 1", beta_0=1.0, adaptive=False),
    Setting(name="fixed beta = 0.5", beta_0=0.5, adaptive=False),
    Setting(name="no anchor", anchor="none", beta_0=1.0),
)
EXACT = SETTINGS[:4]
REPEATED = 8
PARTICLES = 4096
TILTS = [i / 20 for i in range(41)]


class Policy(nn.Module):
    """v(x, t) = the base's exact velocity + a network that is 0 at first."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.Linear(3, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2)
        )
        for parameter in self.change[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return base_velocity(x, t) + self.change(torch.cat([x, t[:, None]], dim=1))


def base_velocity(x: Tensor, t: Tensor) -> Tensor:
    return path_velocity(RING, x, t)


def reward(x_1: Tensor) -> Tensor:
    return x_1[:, 0]


def advantages_of(setting: Setting, x_1: Tensor) -> Tensor:
    one_group = torch.zeros(len(x_1), dtype=torch.long)
    advantages = group_advantages(reward(x_1), one_group, scale=setting.scale)
    return clip_advantages(advantages, low=-setting.clip, high=setting.clip)


def update(
    policy: Policy,
    reference: Velocity,
    optimizer: torch.optim.Optimizer,
    setting: Setting,
    generator: torch.Generator,
) -> None:
    """One step of Algorithm 1."""
    with torch.no_grad():
        x_1 = euler(policy, torch.randn(BATCH, 2, generator=generator), SOLVER_TIMES)
    advantages = advantages_of(setting, x_1)
    path = sample_path(x_1, generator)
    with torch.no_grad():
        v_ref = reference(path.x_t, path.t)
    loss = flow_objective(
        policy(path.x_t, path.t),
        path.u_t,
        v_ref,
        advantages,
        beta=setting.coefficient(advantages),
    )
    optimizer.zero_grad()
    loss.mean().backward()
    nn.utils.clip_grad_norm_(policy.parameters(), MAX_GRAD_NORM)
    optimizer.step()


def train(
    setting: Setting, seed: int, *, steps: int = STEPS, every: int = EVERY
) -> Iterator[dict[str, Any]]:
    """Train one policy; yields an evaluation at step 0 and after each ``every`` steps."""
    torch.manual_seed(seed)
    policy, generator = Policy(), torch.Generator().manual_seed(seed)
    average = copy.deepcopy(policy).requires_grad_(False)
    reference = average if setting.anchor == "ema" else base_velocity
    optimizer = torch.optim.Adam(policy.parameters(), lr=LEARNING_RATE)

    def evaluate(step: int) -> dict[str, Any]:
        return {"setting": setting.name, "seed": seed, "step": step, **measure(policy)}

    first = evaluate(0)
    yield first | {"gain": 0.0}
    for step in range(1, steps + 1):
        update(policy, reference, optimizer, setting, generator)
        for value, parameter in zip(average.parameters(), policy.parameters(), strict=True):
            value.lerp_(parameter.detach(), 1 - ANCHOR_DECAY)
        if step % every == 0:
            row = evaluate(step)
            yield row | {"gain": row["reward"] - first["reward"]}


@torch.no_grad()
def measure(velocity: Velocity) -> dict[str, Any]:
    """Metrics of 2048 samples from the same noises each time, those of ``describe`` and

    divergence    mean |v - v_base|^2 at one uniform t per sample, on the path to the samples
    sliced_w2     sqrt of the mean over 64 directions of W2^2 to the base's samples, projected
    """
    x_0, generator = evaluation_noise()
    x_1 = euler(velocity, x_0, SOLVER_TIMES)
    path = sample_path(x_1, generator)
    divergence = velocity_divergence(velocity(path.x_t, path.t), base_velocity(path.x_t, path.t))
    return describe(x_1) | {
        "divergence": float(divergence.mean()),
        "sliced_w2": sliced_w2(x_1, base_samples()),
    }


def evaluation_noise() -> tuple[Tensor, torch.Generator]:
    generator = torch.Generator().manual_seed(EVALUATION_SEED)
    return torch.randn(EVALUATED, 2, generator=generator), generator


@functools.cache
def base_samples() -> Tensor:
    return euler(base_velocity, evaluation_noise()[0], SOLVER_TIMES)


def describe(x_1: Tensor) -> dict[str, Any]:
    """Mean reward, and the share of the samples at each mode; ``off_modes`` are at none."""
    distance, mode = torch.cdist(x_1, RING.means).min(1)
    mass = mode[distance < NEAR * RING.std].bincount(minlength=len(RING.means)) / len(x_1)
    return {
        "reward": float(reward(x_1).mean()),
        "modes_alive": int((mass > ALIVE).sum()),
        "largest_mode": float(mass.max()),
        "least_mode": float(mass.min()),
        "off_modes": float(1 - mass.sum()),
        "mode_mass": mass.tolist(),
    }


def sliced_w2(x: Tensor, y: Tensor, directions: int = 64) -> float:
    angle = torch.pi * torch.arange(directions) / directions
    projection = torch.stack([angle.cos(), angle.sin()])
    difference = (x @ projection).sort(0).values - (y @ projection).sort(0).values
    return float(difference.square().mean().sqrt())


def minimiser_of(setting: Setting, x_1: Tensor, weights: Tensor) -> Velocity:
    """v* where the policy's samples are the points x_1 with these probabilities."""
    advantages = reward(x_1) - (weights * reward(x_1)).sum()
    advantages = clip_advantages(advantages, low=-setting.clip, high=setting.clip)
    points = {"x_1": x_1, "weights": weights, "advantages": advantages}
    return lambda x, t: adrpo_minimiser(x, t, base_velocity(x, t), beta_0=setting.beta_0, **points)


def outer_steps(setting: Setting) -> dict[str, Any]:
    """The exact minimiser of the first outer step, then of ``REPEATED`` on their own samples."""
    grid, weights = quadrature_grid(RING, spacing=SPACING)
    first = euler(minimiser_of(setting, grid, weights), evaluation_noise()[0], SOLVER_TIMES)
    generator = torch.Generator().manual_seed(0)
    equal = torch.full((PARTICLES,), 1 / PARTICLES)
    samples, repeated = sample_mixture(RING, PARTICLES, generator), []
    for _ in range(REPEATED):
        noise = torch.randn(PARTICLES, 2, generator=generator)
        samples = euler(minimiser_of(setting, samples, equal), noise, SOLVER_TIMES)
        repeated.append(describe(samples))
    return {"first": describe(first), "repeated": repeated}


def tilted_ring(strength: float) -> dict[str, float]:
    """Gain, divergence and least mode of p_1(x) exp(strength x) / Z, by its exact velocity."""
    tilted = reward_tilted(RING, torch.tensor([strength, 0.0]))
    generator = torch.Generator().manual_seed(EVALUATION_SEED)
    path = sample_path(sample_mixture(tilted, 4 * EVALUATED, generator), generator)
    change = path_velocity(tilted, path.x_t, path.t), base_velocity(path.x_t, path.t)
    return {
        # The ring's own mean is 0.
        "gain": float(tilted.weights @ reward(tilted.means)),
        "divergence": float(velocity_divergence(*change).mean()),
        "least_mode": float(tilted.weights.min()),
    }


def settings_of(rows: Path) -> dict[str, dict[str, Any]]:
    """The estimates of each setting, from the file of its ``rows``."""
    runs: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for line in rows.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        runs.setdefault(row["setting"], {}).setdefault(row["seed"], []).append(row)
    return {name: summarise(list(seeds.values())) for name, seeds in runs.items()}


def redraw(output: Path) -> None:
    """Write ``summary.json`` and ``table.md`` of ``output`` again from its rows."""
    record = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    settings = settings_of(output / "rows.jsonl")
    record["settings"] = rounded(settings)
    (output / "summary.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (output / "table.md").write_text(table(settings, record["tilts"]), encoding="utf-8")
    print(table(settings, record["tilts"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/mixture"))
    parser.add_argument("--redraw", action="store_true", help="from OUTPUT/rows.jsonl")
    arguments = parser.parse_args()
    if arguments.redraw:
        redraw(arguments.output)
        return
    torch.set_num_threads(1)
    started, runs = time.perf_counter(), {}
    for setting in SETTINGS:
        runs[setting.name] = [[rounded(row) for row in train(setting, seed)] for seed in SEEDS]
        print(f"{time.perf_counter() - started:4.0f} s  {setting.name}", flush=True)
    with torch.no_grad():
        exact = {setting.name: outer_steps(setting) for setting in EXACT}
    tilts = [tilted_ring(strength) for strength in TILTS]
    settings = {name: summarise(of_setting) for name, of_setting in runs.items()}
    record = {
        "command": "python benchmarks/mixture.py",
        "steps": STEPS,
        "samples": EVALUATED,
        "seconds": round(time.perf_counter() - started),
        "settings": rounded(settings),
        "exact": rounded(exact),
        "tilts": rounded(tilts),
        "environment": environment_record(),
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    rows = [row for of_setting in runs.values() for run in of_setting for row in run]
    (arguments.output / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (arguments.output / "summary.json").write_text(json.dumps(record, indent=1) + "\n")
    (arguments.output / "table.md").write_text(table(settings, tilts), encoding="utf-8")
    draw(rows, record, arguments.output / "mixture.png")
    print(table(settings, tilts))


if __name__ == "__main__":
    main()

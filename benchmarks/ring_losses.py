"""Every loss, under a fixed and under the adaptive penalty, where the best answer is known exactly.

``python benchmarks/ring_losses.py [--output benchmarks/results/ring_losses] [--redraw]``

The trainers of adrpo train the ring of ``mixture.py`` (``ring_policy.py``) by the settings of
``benchmarks/losses/``: 60 steps of 256 samples, three seeds, Adam at one rate for all, 20 solver
steps. The reward is the x coordinate. The yardstick is the exact tilt p_1(x) exp(d x) / Z, which
has the least KL divergence from the base at its own gain: what a policy's divergence is more than
the tilt's at an equal gain, its loss has spent for nothing.

Written: ``rows.jsonl`` (every evaluation), ``summary.json``, ``table.md``, and the adaptive penalty
less the fixed one, ``differences.md``. ``--redraw`` makes all but the first again from the rows.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from mixture import TILTS, measure, tilted_ring
from mixture_table import at_gain, rounded
from ring_policy import RingPolicy, x_coordinate

from adrpo.config import FlowConfig, load_flow_config
from adrpo.data.base import Prompt
from adrpo.evaluation.intervals import over_seeds
from adrpo.flow.domain import build_trainer
from adrpo.flow.models.prompt_set import PromptSet
from adrpo.runs import RunDirectory
from adrpo.runs.environment import environment_record

LOSSES = Path(__file__).with_name("losses")
SEEDS = range(3)
STEPS, EVERY = 60, 10
SAMPLES = 256
RATE = 2e-3
LEVELS = {
    "divergence_at_0.3": ("divergence", 0.3),
    "divergence_at_0.7": ("divergence", 0.7),
    "least_mode_at_0.7": ("least_mode", 0.7),
}
"""Metrics at a gain, which losses are compared by: none is ahead by having gone further."""
TITLES = {
    "gain": "gain",
    "divergence": "divergence",
    "divergence_at_0.3": "divergence at gain 0.3",
    "divergence_at_0.7": "at gain 0.7",
    "least_mode_at_0.7": "least mode at gain 0.7",
    "calls": "network calls",
}

SETTINGS: dict[str, Any] = {
    "model": {"device": "cpu", "compile": False},
    "prompts": {"train_size": 512, "held_out_size": 2},
    "sampling": {"steps": 20, "solver": "euler"},
    "training": {
        "steps": STEPS,
        "prompts_per_step": 1,
        "samples_per_prompt": SAMPLES,
        "micro_batch_size": 16384,
        "timesteps_per_sample": 1,
        "learning_rate": RATE,
        "learning_rate_schedule": "constant",
        "timestep_sampling": "uniform",
    },
}
METRICS = ("gain", "divergence", "least_mode", "modes_alive", "sliced_w2", "calls")


def config(recipe: Path, seed: int) -> FlowConfig:
    """The settings of a file in ``losses/`` on the ring."""
    settings = load_flow_config(str(recipe)).model_dump(mode="json")
    for section, changes in SETTINGS.items():
        settings[section] |= changes
    settings["training"]["seed"] = seed
    if settings["algorithm"]["method"] == "dpo":
        # A pair of each of as many prompts, which are all alike; as many samples as the others'.
        settings["algorithm"] |= {"pairs_prompts": 512, "pairs_samples": STEPS * SAMPLES // 512}
    return FlowConfig.model_validate(settings)


def train(recipe: Path, seed: int) -> Iterator[dict[str, Any]]:
    """Train by the loss of ``recipe``; an evaluation at step 0 and after each ``EVERY`` steps."""
    torch.manual_seed(seed)
    policy = RingPolicy()

    def load(_: Any, prompts: dict[str, list[Prompt]], **__: Any) -> Any:
        return policy, {name: PromptSet.encoded(policy, few) for name, few in prompts.items()}

    with patch("adrpo.flow.training.loop.load_with_prompts", load), TemporaryDirectory() as folder:
        trainer = build_trainer(config(recipe, seed), reward=x_coordinate)
        trainer.prepare(RunDirectory.create(Path(folder) / "run", "domain: flow\n"))
        first = measure(policy.network)["reward"]
        for step in range(STEPS + 1):
            if step:
                trainer.step(step)
            if step % EVERY == 0:
                row = {"loss": recipe.stem, "seed": seed, "step": step, "calls": policy.model_calls}
                found = measure(policy.network)
                yield row | found | {"gain": found["reward"] - first}


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """loss -> metric -> {mean, low, high, seeds} at the last step, and at the gains of LEVELS."""
    runs: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for row in rows:
        runs.setdefault(row["loss"], {}).setdefault(row["seed"], []).append(row)
    summary: dict[str, Any] = {}
    for loss, seeds in runs.items():
        finals = [of_seed[-1] for of_seed in seeds.values()]
        columns: dict[str, list[Any]] = {
            name: [float(final[name]) for final in finals] for name in METRICS
        }
        for name, level in LEVELS.items():
            columns[name] = [at_gain(of_seed, *level) for of_seed in seeds.values()]
        summary[loss] = {name: _interval(values) for name, values in columns.items()}
    return summary


def _interval(values: list[Any]) -> dict[str, Any]:
    if None in values:
        return {"mean": None, "low": None, "high": None, "seeds": values}
    found = over_seeds(values)
    return {"mean": found.mean, "low": found.low, "high": found.high, "seeds": values}


def table(summary: dict[str, Any], tilts: list[dict[str, float]]) -> str:
    lines = [
        f"| loss and penalty | {' | '.join(TITLES.values())} |",
        "|---|" + "---|" * len(TITLES),
    ]
    for loss, metrics in summary.items():
        cells = [_cell(metrics[name]) for name in TITLES if name != "calls"]
        lines.append(f"| {loss} | {' | '.join(cells)} | {metrics['calls']['mean']:.3g} |")
    best = {name: f"{at_gain(tilts, *level):.3g}" for name, level in LEVELS.items()}
    cells = " | ".join(best.get(name, "") for name in TITLES)
    return "\n".join([*lines, f"| exact tilt p_1 exp(d x) | {cells} |"]) + "\n"


def differences(summary: dict[str, Any]) -> dict[str, Any]:
    """loss -> metric -> the adaptive penalty's minus the fixed one's, paired by seeds."""
    found: dict[str, Any] = {}
    for name in (key.removesuffix("-adaptive") for key in summary if key.endswith("-adaptive")):
        if f"{name}-fixed" not in summary:
            continue
        pair = summary[f"{name}-adaptive"], summary[f"{name}-fixed"]
        found[name] = {
            metric: _interval(
                [
                    None if None in both else both[0] - both[1]
                    for both in zip(*(one[metric]["seeds"] for one in pair), strict=True)
                ]
            )
            for metric in LEVELS
        }
    return found


def table_of_differences(found: dict[str, Any]) -> str:
    titles = [f"{metric} at gain {gain}" for metric, gain in LEVELS.values()]
    lines = [
        f"| adaptive less fixed | {' | '.join(titles)} |".replace("_", " "),
        "|---|" + "---|" * len(titles),
    ]
    lines += [
        f"| {loss} | {' | '.join(_cell(metrics[name], sign='+') for name in LEVELS)} |"
        for loss, metrics in found.items()
    ]
    return "\n".join(lines) + "\n"


def _cell(metric: dict[str, Any], sign: str = "") -> str:
    if metric["mean"] is None:
        reached = sum(value is not None for value in metric["seeds"])
        return f"reached by {reached} of {len(metric['seeds'])}"
    mean, low, high = (f"{metric[name]:{sign}.3g}" for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def drawn(
    rows: list[dict[str, Any]], tilts: list[dict[str, float]]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The keys of the summary that the rows make, and the tables by their files."""
    summary = summarise(rows)
    pairs = differences(summary)
    tables = {"table.md": table(summary, tilts), "differences.md": table_of_differences(pairs)}
    return {"losses": rounded(summary), "adaptive_less_fixed": rounded(pairs)}, tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/ring_losses"))
    parser.add_argument("--redraw", action="store_true", help="from OUTPUT/rows.jsonl")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    output, started = arguments.output, time.perf_counter()
    if arguments.redraw:
        record = json.loads((output / "summary.json").read_text(encoding="utf-8"))
        text = (output / "rows.jsonl").read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.splitlines()]
    else:
        rows = []
        for recipe in sorted(LOSSES.glob("*.yaml")):
            for seed in SEEDS:
                rows += [rounded(row) for row in train(recipe, seed)]
            last = rows[-1]
            shown = f"gain {last['gain']:.3f}, divergence {last['divergence']:.3f}"
            print(f"{time.perf_counter() - started:5.0f} s  {recipe.stem}: {shown}", flush=True)
        record = {
            "command": "python benchmarks/ring_losses.py",
            "steps": STEPS,
            "samples": SAMPLES,
            "learning_rate": RATE,
            "seeds": list(SEEDS),
            "seconds": round(time.perf_counter() - started),
            "tilts": rounded([tilted_ring(strength) for strength in TILTS]),
            "environment": environment_record(),
        }
        output.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (output / "rows.jsonl").write_text(lines, encoding="utf-8")
    found, tables = drawn(rows, record["tilts"])
    record |= found
    (output / "summary.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for name, text in tables.items():
        (output / name).write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()

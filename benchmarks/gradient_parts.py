"""The part of the gradient that the adaptive coefficient adds to that of a fixed penalty.

``python benchmarks/gradient_parts.py [RECIPE ...] [--set section.key=value ...]``
(``--output benchmarks/results/gradient_parts``)

ADRPO's loss is that of a fixed penalty and one term more:

    A |v - u_t|^2 + beta_0 |v - v_ref|^2 - A |v - v_ref|^2

The command trains each recipe and, before every fifth update, takes the gradient of each of the
three terms alone on the step's own samples: its norm, and the angle between the update with and
without the third. ``summary.json`` has the rows; ``table.md`` their means over the measured steps
but the first, at which the policy is its reference and two of the gradients are 0.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import adrpo.flow.training.adrpo
from adrpo.config import AdrpoSection, FlowConfig, load_recipe
from adrpo.flow.methods import Method
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.flow.training.anchors import Anchor
from adrpo.flow.training.update import Batch, Losses, Velocity, accumulate_gradient
from adrpo.runs.environment import environment_record

RECIPES = ("flow/adrpo", "flow/adrpo-paper")
EVERY = 5
TERMS = ("reward", "fixed", "adaptive")
"""The three terms, in the order of the formula."""


def gradient(parameters: list[torch.nn.Parameter]) -> Tensor:
    """The gradient as one vector, taken away from the parameters."""
    parts = []
    for parameter in parameters:
        parts.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
        parameter.grad = None
    return torch.cat([part.flatten() for part in parts])


def measure(config: FlowConfig) -> list[dict[str, float]]:
    """One row for every measured step of a run by ``config``."""
    trainer = FlowTrainer(config)
    parameters = list(trainer.policy.adapter_parameters())
    assert isinstance(config.algorithm, AdrpoSection)
    beta_0 = config.algorithm.beta_0
    rows: list[dict[str, float]] = []
    updates = 0

    def observed(
        velocity: Velocity, anchor: Anchor, method: Method, batch: Batch, **named: Any
    ) -> Losses:
        nonlocal updates
        updates += 1
        if updates % EVERY == 1:
            weight = batch.weights.weight
            nothing = torch.zeros_like(weight)
            parts = {}
            for term, (a, b) in zip(
                TERMS, ((weight, nothing), (nothing, nothing + beta_0), (nothing, -weight)),
                strict=True,
            ):  # fmt: skip
                weighed = replace(batch, weights=replace(batch.weights, weight=a, beta=b))
                accumulate_gradient(velocity, anchor, method, weighed, **named)
                parts[term] = gradient(parameters)
            rows.append({"step": updates, **compared(parts)})
        return accumulate_gradient(velocity, anchor, method, batch, **named)

    with (
        mock.patch.object(adrpo.flow.training.adrpo, "accumulate_gradient", observed),
        tempfile.TemporaryDirectory() as folder,
    ):
        trainer.train(Path(folder) / "run", progress=False)
    return rows


def compared(parts: dict[str, Tensor]) -> dict[str, float]:
    """Norms of the terms' gradients against that of the first, and the cosine of the sum of all
    three with the sum of the first two, which is the fixed penalty's."""
    scale = parts["reward"].norm()
    fixed = parts["reward"] + parts["fixed"]
    return {
        "reward_norm": float(scale),
        **{f"{term}_over_reward": float(parts[term].norm() / scale) for term in TERMS[1:]},
        "cosine_with_fixed_penalty": float(
            torch.cosine_similarity(fixed + parts["adaptive"], fixed, dim=0)
        ),
    }


def table(results: dict[str, list[dict[str, float]]]) -> str:
    lines = [
        "| recipe | beta_0 term / first | A term / first | cosine, adaptive and fixed |",
        "|---|---|---|---|",
    ]
    for recipe, rows in results.items():
        later = [row for row in rows if row["step"] > 1]
        means = [
            sum(row[key] for row in later) / len(later)
            for key in ("fixed_over_reward", "adaptive_over_reward", "cosine_with_fixed_penalty")
        ]
        lines.append(f"| {recipe} | {means[0]:.4f} | {means[1]:.4f} | {means[2]:.5f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=RECIPES, help="of the method adrpo")
    parser.add_argument("--set", action="append", default=[], help="section.key=value, for all")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/gradient_parts"))
    options = parser.parse_args()
    overrides = ["evaluation.every=1000", "checkpoint.every=1000", *options.set]
    results = {}
    for recipe in options.recipes:
        config = load_recipe(recipe, overrides)
        assert isinstance(config, FlowConfig)
        results[recipe] = measure(config)
        print(table({recipe: results[recipe]}))
    chosen = " ".join([*options.recipes, *(f"--set {value}" for value in options.set)])
    options.output.mkdir(parents=True, exist_ok=True)
    summary = {
        "command": f"python benchmarks/gradient_parts.py {chosen}",
        "rows": results,
        "environment": environment_record(),
    }
    (options.output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    (options.output / "table.md").write_text(table(results))


if __name__ == "__main__":
    main()

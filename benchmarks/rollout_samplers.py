"""The quality of the base's images by solver and number of network calls.

``python benchmarks/rollout_samplers.py [--prompts 102] [--images 4] [--output FOLDER]``

For the rollout of a step, whose images are half of its cost. Every sampler draws the same prompts
from the same noises, by ``adrpo evaluate``; each metric has its difference from REFERENCE, paired
by prompt and noise. Written to benchmarks/results/rollout_samplers/: ``summary.json`` and
``table.md``.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from results_folder import markdown, write_results

from adrpo.comparison.collect import read_listing
from adrpo.evaluation.intervals import paired_difference
from adrpo.evaluation.values import read_values, values_path
from adrpo.runs.directory import RunDirectory
from adrpo.runs.environment import environment_record

REFERENCE = "euler 40"
SAMPLERS: dict[str, tuple[str, int]] = {
    REFERENCE: ("euler", 40),
    **{f"euler {steps}": ("euler", steps) for steps in (20, 10, 8, 7, 6, 5, 4)},
    **{f"dpmpp_2m {steps}": ("dpmpp_2m", steps) for steps in (10, 8, 7, 6, 5, 4)},
    **{f"heun {steps}": ("heun", steps) for steps in (5, 4, 3)},
}
CALLS = {"euler": 1, "dpmpp_2m": 1, "heun": 2}
METRICS = ("gold_accuracy", "scene_judge", "clip_score_evaluation", "clip_diversity")
OUTPUT = Path("benchmarks/results/rollout_samplers")


def values_of(
    solver: str, steps: int, options: list[str], place: Path
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Metric -> its values of the base, drawn by a sampler, and the prompts' categories."""
    folder = place / f"{solver}-{steps}"
    command = [sys.executable, "-m", "adrpo", "evaluate", "embedded", "--recipe", "flow/verifiable"]
    settings = [f"evaluation.sampling.solver={solver}", f"evaluation.sampling.steps={steps}"]
    subprocess.run([*command, *options, *settings, "--output-dir", str(folder)], check=True)
    found = read_values(values_path(RunDirectory.open(folder), 0))
    return {name: np.asarray(found[name]) for name in METRICS}, read_listing(folder)["categories"]


def row_of(
    name: str,
    own: dict[str, np.ndarray],
    reference: dict[str, np.ndarray],
    categories: list[str],
) -> dict[str, Any]:
    solver, steps = SAMPLERS[name]
    row: dict[str, Any] = {"sampler": name, "calls": steps * CALLS[solver]}
    for metric, values in own.items():
        change = paired_difference(values[None], reference[metric][None], categories)
        row[metric] = float(values.mean())
        row[f"{metric}_change"] = change.to_json(tested=True)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    shown = []
    for row in rows:
        cells = [row["sampler"], str(row["calls"])]
        for metric in METRICS:
            change = row[f"{metric}_change"]
            interval = f" ({change['mean']:+.3f} [{change['low']:+.3f}, {change['high']:+.3f}])"
            cells.append(f"{row[metric]:.3f}" + interval * (row["sampler"] != REFERENCE))
        shown.append(cells)
    return markdown(["sampler", "calls", *METRICS], shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=102)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    environment = environment_record()
    options = ["--size", str(arguments.prompts), "--samples-per-prompt", str(arguments.images)]
    with tempfile.TemporaryDirectory() as place:
        found = {
            name: values_of(*sampler, options, Path(place)) for name, sampler in SAMPLERS.items()
        }
    reference, categories = found[REFERENCE]
    rows = [row_of(name, own, reference, categories) for name, (own, _) in found.items()]
    write_results(arguments.output, {"rows": rows}, table(rows), environment)


if __name__ == "__main__":
    main()

"""The parts of the evidence (benchmarks/results/evidence/plan.md), each one comparison's runs.

``python benchmarks/evidence_parts.py PART [--seeds N] [-- OPTION...]`` prints the command of a part
and runs it; a stopped one goes on. Parts of one folder share all settings but their cells', so that
any of their cells can be compared: ``-- --summary-only`` draws a part again from what is there.
"""

import argparse
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CELLS = Path("benchmarks/evidence")
RUNS = Path("runs/evidence")
SHARED = (
    "training.learning_rate_schedule=constant",
    "training.ema_decay=0.9",
    "algorithm.shared_points=true",
    "sampling.steps=6",
    "sampling.solver=dpmpp_2m",
    "prompts.held_out=scenes:test",
    "evaluation.every=40",
    "evaluation.sampling.steps=10",
    "evaluation.distances={features: embedded-evaluation, references: scenes}",
    "evaluation.rewards=[{name: scene_judge_strict, options: {value: verdict}}]",
)
LONG = ("training.steps=200", "training.learning_rate=4e-3")


@dataclass(frozen=True)
class Part:
    """The cells of a folder, and what they are trained with beside SHARED."""

    seeds: int
    folder: str = "long"
    overrides: tuple[str, ...] = LONG
    reference: str = "moving-fixed"
    primary: str | None = None
    also: tuple[str, ...] = ()
    """Cells of other parts that are compared with, trained where they are not yet."""


BASE = ("headline/base-fixed", "headline/base-adaptive")
MOVING = ("headline/moving-fixed", "headline/moving-adaptive")
PARTS = {
    "headline": Part(3, primary="gold_accuracy=moving-adaptive"),
    "fronts": Part(3, reference="base-fixed", also=BASE),
    "clips": Part(2, reference="base-fixed", also=BASE),
    "directions": Part(3, also=MOVING),
    "map": Part(2, "map", ("training.steps=100", "evaluation.every=20"), reference="fixed-few"),
    "flattering": Part(3, "flattering", reference="fixed"),
    "ideas": Part(2, reference="moving-adaptive", also=MOVING[1:]),
}


def command(name: str, seeds: int | None = None) -> list[str]:
    """The comparison of a part: its cells by name, those of other parts first."""
    part = PARTS[name]
    cells = [CELLS / f"{cell}.yaml" for cell in part.also] + sorted((CELLS / name).glob("*.yaml"))
    words = ["compare", *map(str, cells), *SHARED, *part.overrides]
    words += ["--seeds", str(seeds or part.seeds), "--reference", part.reference]
    if part.primary is not None:
        words += ["--primary", part.primary]
    return [*words, "--parallel", "2", "--threads", "1", "--output-dir", str(RUNS / part.folder)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--seeds", type=int)
    parser.add_argument("options", nargs="*", help="further ones of adrpo compare, after --")
    given = parser.parse_args()
    words = [*command(given.part, given.seeds), *given.options]
    print(shlex.join(["adrpo", *words]), flush=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-m", "adrpo", *words], env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())

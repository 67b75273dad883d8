"""The choice of each method's settings: three trials each, four where all three lost.

``python benchmarks/tuning.py [--parallel 2] [--trials TRIALS.yaml --output FOLDER]``

Trains every setting of ``tuning.yaml``, or of another list, once, half as long as the comparison
and with a seed that the comparison does not have. A method's best setting is the one with the
largest hypervolume of gold accuracy and CLIP diversity (docs/use/comparison.md) on *training*
prompts, so that no held-out prompt takes part in the choice; where none gains, the one that loses
least gold accuracy. One seed, so small differences are noise; the table shows all trials.

Written to benchmarks/results/tuning/, or to ``--output``: ``summary.json`` and ``table.md``. A
stopped run goes on.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from results_folder import markdown, write_results

from adrpo.comparison import LocalWorkers, Plan, collect, jobs_of, record, run_jobs
from adrpo.comparison.analysis import SplitAnalysis, analyse
from adrpo.runs.environment import environment_record
from adrpo.runs.resuming import flatten

TRIALS = Path(__file__).with_name("tuning.yaml")
SEED = 9
SETTINGS = (
    "training.steps=30",
    "prompts.held_out_size=17",
    "evaluation.every=30",
    "evaluation.seen_prompts=102",
)
"""Overrides of all trials."""


def write_recipes(folder: Path, trials: dict[str, list[dict[str, Any]]]) -> list[Path]:
    """One recipe file for each trial, "<method>-<number>.yaml"."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for method, settings in trials.items():
        for number, changes in enumerate(settings):
            path = folder / f"{method.split('/')[-1]}-{number}.yaml"
            own = {key: dict(section) for key, section in changes.items()}
            if method == "flow/dpo":
                # As many images as the others sample in their 30 steps.
                own.setdefault("algorithm", {}).update(pairs_prompts=240, pairs_samples=8)
            path.write_text(yaml.safe_dump({"extends": method, **own}), encoding="utf-8")
            paths.append(path)
    return paths


def rows_of(trials: dict[str, list[dict[str, Any]]], split: SplitAnalysis) -> list[dict[str, Any]]:
    """One row for each trial; ``chosen`` is the best of its method."""
    (volumes,) = (
        trade_off.hypervolume
        for trade_off in split.trade_offs
        if trade_off.price == "clip_diversity"
    )
    rows = []
    for method, settings in trials.items():
        names = [f"{method.split('/')[-1]}-{number}" for number in range(len(settings))]
        # A run that gains nothing at less diversity has the base's hypervolume.
        best = max(
            names,
            key=lambda name: (volumes[name].mean, split.change[name]["gold_accuracy"].mean),
        )
        for name, changes in zip(names, settings, strict=True):
            rows.append(
                {
                    "method": method,
                    "settings": flatten(changes) if changes else {},
                    "gold_accuracy_change": split.change[name]["gold_accuracy"].mean,
                    "clip_diversity_kept": split.kept[name]["clip_diversity"].mean,
                    "divergence": split.final[name]["divergence"].mean,
                    "hypervolume": volumes[name].mean,
                    "chosen": name == best,
                }
            )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    heads = ["method", "changed", "gold accuracy", "diversity kept", "divergence", "hypervolume"]
    shown = []
    for row in rows:
        changed = ", ".join(f"{key}={value}" for key, value in row["settings"].items())
        cells = [row["method"], changed or "the recipe as it was"]
        cells += [f"{row['gold_accuracy_change']:+.3f}", f"{row['clip_diversity_kept']:.3f}"]
        cells += [f"{row['divergence']:.4f}", f"{row['hypervolume']:.3f}"]
        shown.append([*cells, "yes" if row["chosen"] else ""])
    return markdown([*heads, "chosen"], shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--trials", type=Path, default=TRIALS)
    parser.add_argument("--runs", type=Path, default=Path("runs/tuning"))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/tuning"))
    arguments = parser.parse_args()
    environment = environment_record()
    trials = yaml.safe_load(arguments.trials.read_text(encoding="utf-8"))
    recipes = write_recipes(arguments.runs / "recipes", trials)
    paths = [str(path) for path in recipes]
    plan = Plan.resolve(arguments.runs / "trials", paths, SETTINGS, 1, None)
    plan = replace(plan, seeds=(SEED,))
    record(plan)
    workers = LocalWorkers(parallel=arguments.parallel, threads=arguments.threads)
    failures = run_jobs(jobs_of(plan), plan.overrides, workers=workers)
    if failures:
        sys.exit("\n".join(f"{failure.job.folder.name}: {failure.reason}" for failure in failures))
    splits = analyse(collect(plan)).splits
    (split,) = (split for split in splits if split.split == "seen")
    rows = rows_of(trials, split)
    content = {
        "seed": SEED,
        "settings": list(SETTINGS),
        "images": split.images,
        "trials": rows,
    }
    write_results(arguments.output, content, table(rows), environment)


if __name__ == "__main__":
    main()

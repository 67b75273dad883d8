"""The gains of a recipe on unseen prompts: the README's first table.

``python benchmarks/improvement.py flow/adrpo flow/demo --seeds 0 1 2 [--parallel 2]``

Trains each recipe with each seed, as ``adrpo compare`` does: one process a run, a finished run is
kept, a stopped one resumed. Then it measures, by ``adrpo evaluate``, the base under classifier-free
guidance on the same prompts and noises, which is what no training at all gives; and every trained
adapter and that base once more on the prompts of ``scenes:test``, in view of which nothing was
chosen. The final table is of these.

Written to benchmarks/results/improvement/:

- ``runs.tar.xz``: what the runs say, with the values of every image, but no adapter or picture;
- ``summary.json``: command, seeds, and for each split ("test", "held_out", and "alike", the
  held-out prompts of the test split's categories) base, methods (recipe -> metric -> mean, low,
  high, the seeds' own values), their paired changes, the shares of the diversity that they keep,
  and environments;
- ``table.md`` of the test split, ``table-held_out.md``, and ``pictures.png`` (the first recipe's
  first seed, held-out prompts).

``python benchmarks/improvement.py --redraw`` trains nothing and makes summary and tables again from
``runs.tar.xz``.

The intervals are those of a comparison (:mod:`adrpo.evaluation.intervals`): of 95 %, over seeds,
prompts and images, where a prompt that all seeds were evaluated on counts once. Guidance has no
seeds, so its row speaks for prompts and images alone.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from comparison_tables import interval, keep
from pictures import draw_comparison

from adrpo.comparison import LocalWorkers, Plan, jobs_of, run_jobs
from adrpo.comparison.collect import read_listing
from adrpo.comparison.workers import PROGRAM
from adrpo.config import find_recipe, load_flow_config
from adrpo.embedded.scenes import TEST_CATEGORIES
from adrpo.evaluation.intervals import (
    Estimate,
    complete_prompts,
    mean_over_seeds,
    paired_difference,
    paired_ratio,
)
from adrpo.evaluation.values import Values, read_values, values_path
from adrpo.metrics import UNSEEN
from adrpo.runs.directory import RunDirectory

RECIPES = ("flow/adrpo", "flow/demo")
GUIDANCE = 1.5
GUIDED = f"base, guidance {GUIDANCE}"
OF_THE_FIELD = ("divergence",)
"""Metrics of the weights, not of the guided field: under guidance they are 0, without a meaning."""

DIVERSITIES = ("clip_diversity", "clip_diversity_l2", "clip_diversity_right")
METRICS = ("gold_accuracy", "clip_score", "clip_score_evaluation", *DIVERSITIES, "divergence")

TEST, HELD_OUT, ALIKE = "test", "held_out", "alike"
TABLES = {TEST: "table.md", HELD_OUT: "table-held_out.md"}
"""Split -> its table; the first one is the final table."""

ON_TEST = ("--prompts", "scenes:test")


def plan_of(folder: Path, recipe: str, seeds: Sequence[int]) -> Plan:
    """The runs of one recipe, a comparison by itself: recipes are evaluated at other steps."""
    return replace(Plan.resolve(folder, [recipe], (), 1, None), seeds=tuple(seeds))


def train(plan: Plan, parallel: int, threads: int) -> None:
    (plan.folder / "runs").mkdir(parents=True, exist_ok=True)
    failures = run_jobs(jobs_of(plan), (), workers=LocalWorkers(parallel=parallel, threads=threads))
    if failures:
        sys.exit("\n".join(f"{failure.job.folder.name}: {failure.reason}" for failure in failures))


def guided_folder(folder: Path) -> Path:
    return folder / "runs" / f"guidance-{GUIDANCE}"


def of_split(run: Path, split: str) -> Path:
    """The folder in which a run, or the guided base, was measured on the prompts of ``split``."""
    return run.with_name(f"{run.name}-{split}") if split == TEST else run


def evaluate(target: str, output: Path, *settings: str) -> None:
    """Measure a run or a model, where that has not been done."""
    if not output.exists():
        command = [*PROGRAM, "evaluate", target, *settings, "--output-dir", str(output)]
        subprocess.run(command, check=True)


def guide(folder: Path, recipe: str) -> None:
    """Measure the recipe's base under guidance, on both splits."""
    base = load_flow_config(find_recipe(recipe)).model.pretrained
    settings = ("--recipe", recipe, "--guidance-scale", str(GUIDANCE))
    guided = guided_folder(folder)
    evaluate(base, guided, *settings)
    evaluate(base, of_split(guided, TEST), *settings, *ON_TEST)


def test(plan: Plan) -> None:
    """Measure what a recipe's runs have trained on the prompts that no choice has seen."""
    for seed in plan.seeds:
        run = plan.run_folder(plan.methods[0], seed)
        evaluate(str(run), of_split(run, TEST), *ON_TEST)


def estimates(
    base: Values, tuned: Values, categories: Sequence[str], metrics: Sequence[str] = METRICS
) -> dict[str, dict[str, Any]]:
    """Metric -> estimate of ``base``, ``tuned``, ``change`` and, of diversities, ``kept``.

    The values are [seeds, prompts, K], or [seeds, prompts] for a metric of a prompt. A prompt
    without a value of every seed on both sides (fewer than two right images) is left out.
    """
    found: dict[str, dict[str, Any]] = {"base": {}, "tuned": {}, "change": {}, "kept": {}}

    def tell(part: str, metric: str, estimate: Estimate, names: Sequence[str]) -> None:
        found[part][metric] = {"prompts": len(names), **estimate.to_json()}

    for metric in metrics:
        complete = complete_prompts([base[metric], tuned[metric]], categories)
        if complete is None:
            continue
        (before, after), names = complete
        # The base is not trained: one seed holds all there is to know of it.
        tell("base", metric, mean_over_seeds(before[:1], names), names)
        tell("tuned", metric, mean_over_seeds(after, names), names)
        tell("change", metric, paired_difference(after, before, names), names)
        if metric in DIVERSITIES:
            tell("kept", metric, paired_ratio(before, after, names), names)
    return found


def measured(folders: Sequence[Path], place: int, rows: Sequence[int]) -> Values:
    """Metric -> [seeds, prompts, K] of the first (``place`` 0) or the last (-1) evaluation of each
    seed's folder, of the prompts ``rows``."""
    runs = [RunDirectory.open(folder) for folder in folders]
    steps = [run.read_evaluations(UNSEEN)[place]["step"] for run in runs]
    each = [read_values(values_path(run, step)) for run, step in zip(runs, steps, strict=True)]
    return {name: np.stack([values[name][list(rows)] for values in each]) for name in each[0]}


def summarise(folder: Path, recipes: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """The estimates of the runs below ``folder``, for each split."""
    names = (*TABLES, ALIKE)
    splits = {split: summarise_split(folder, split, recipes, seeds) for split in names}
    return {"seeds": list(seeds), "splits": splits}


def summarise_split(
    folder: Path, split: str, recipes: Sequence[str], seeds: Sequence[int]
) -> dict[str, Any]:
    """The estimates of one split, in the form of a comparison's summary."""
    found: dict[str, Any] = {"base": {}, "methods": {}, "change": {}, "kept": {}}
    environments = {}

    def tell(name: str, parts: dict[str, dict[str, Any]], run: Path) -> None:
        # Every run has evaluated the same base; only which prompts have right images may differ.
        found["base"] = found["base"] or parts["base"]
        found["methods"][name] = parts["tuned"]
        found["change"][name], found["kept"][name] = parts["change"], parts["kept"]
        environments[name] = RunDirectory.open(run).read_environment()

    guided = of_split(guided_folder(folder), split)
    listed = read_listing(guided)["categories"]
    rows = [row for row, name in enumerate(listed) if split != ALIKE or name in TEST_CATEGORIES]
    categories = [listed[row] for row in rows]
    base: Values = {}
    for recipe in recipes:
        plan = plan_of(folder, recipe, seeds)
        runs = [of_split(plan.run_folder(plan.methods[0], seed), split) for seed in seeds]
        assert read_listing(runs[0])["categories"] == listed, "one set of prompts"
        base = measured(runs, 0, rows)
        tell(recipe, estimates(base, measured(runs, -1, rows), categories), runs[0])
    once = {metric: column[:1] for metric, column in base.items()}
    after = measured([guided], -1, rows)
    compared = [metric for metric in METRICS if metric not in OF_THE_FIELD]
    tell(GUIDED, estimates(once, after, categories, compared), guided)
    return {
        "prompts": len(categories),
        "images": int(after["gold_accuracy"].size),
        **found,
        "environment": environments,
    }


def table(summary: dict[str, Any], split: str) -> str:
    found = summary["splits"][split]
    lines = [
        "| recipe | seeds | gold accuracy | CLIP score | second CLIP | diversity kept "
        "| as L2 distance | among right images |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, tuned in found["methods"].items():
        cells = [name, "none" if name == GUIDED else str(len(summary["seeds"]))]
        for metric, places in (
            ("gold_accuracy", 3),
            ("clip_score", 1),
            ("clip_score_evaluation", 1),
        ):
            before, after = (part[metric]["mean"] for part in (found["base"], tuned))
            change = interval(found["change"][name][metric], places, sign="+")
            cells.append(f"{before:.{places}f} → {after:.{places}f} ({change})")
        cells += [interval(found["kept"][name][metric], 2) for metric in DIVERSITIES]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """A folder with the content of ``archive`` for a while."""
    with tempfile.TemporaryDirectory() as folder, tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
        yield Path(folder)


def redrawn(output: Path) -> dict[str, Any]:
    """The summary in ``output``, made again from the values beside it."""
    known = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    recipes = [name for name in known["splits"][TEST]["methods"] if name != GUIDED]
    with unpacked(output / "runs.tar.xz") as folder:
        return {"command": known["command"], **summarise(folder, recipes, known["seeds"])}


def write(output: Path, summary: dict[str, Any]) -> None:
    (output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    for split, file in TABLES.items():
        (output / file).write_text(table(summary, split), encoding="utf-8")
        print(split, table(summary, split), sep="\n\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="threads of each run")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/improvement"), help="runs/ in it has the runs"
    )
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/improvement"))
    parser.add_argument("--redraw", action="store_true", help="from OUTPUT/runs.tar.xz")
    options = parser.parse_args()
    if options.redraw:
        write(options.output, redrawn(options.output))
        return
    plans = [plan_of(options.runs, recipe, options.seeds) for recipe in options.recipes]
    for plan in plans:
        train(plan, options.parallel, options.threads)
        test(plan)
    guide(options.runs, options.recipes[0])
    keep(options.runs, options.output)
    command = " ".join(["python", *sys.argv])
    summary = summarise(options.runs, options.recipes, options.seeds)
    write(options.output, {"command": command, **summary})
    shown = plans[0].run_folder(plans[0].methods[0], options.seeds[0])
    draw_comparison(shown, options.output / "pictures.png")


if __name__ == "__main__":
    main()

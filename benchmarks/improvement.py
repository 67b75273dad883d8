"""What a recipe gains on unseen prompts: the README's table.

``python benchmarks/improvement.py flow/demo flow/adrpo --seeds 0 1 2 [--parallel 2]``

Trains each recipe with each seed (`adrpo train`, one process each; a finished run is kept, a
stopped one resumed), then writes to benchmarks/results/improvement/: ``rows.jsonl`` (the first
and the last evaluation of every run), ``summary.json`` (recipe -> metric -> mean, low, high over
all seeds, prompts and images, the seeds' own values, command and environment), ``table.md``, and
``pictures.png`` (the first recipe's first seed). What an earlier call found of recipes that this
one doesn't name stays. The last line of the table is what no training at all gives: the base under
classifier-free guidance, on the same prompts and noises.

An interval is the bootstrap of ``adrpo.evaluation.statistics`` on the runs' per-image values, the
seeds side by side as strata: it speaks for these seeds, and the seeds' own values stand beside it.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from pictures import draw_comparison

from adrpo.config import load_flow_config
from adrpo.data.prompts import load_prompts
from adrpo.evaluation import bootstrap_change, bootstrap_mean, bootstrap_ratio
from adrpo.evaluation.values import finite_prompts, read_values, values_path
from adrpo.flow.evaluator import Evaluator
from adrpo.flow.models.loading import load_policy
from adrpo.rewards.loading import build_reward
from adrpo.runs.directory import RunDirectory
from adrpo.runs.environment import environment_record

DIVERSITIES = ("clip_diversity", "clip_diversity_l2", "clip_diversity_right")
GUIDANCE = 1.5
METRICS = ("gold_accuracy", "clip_score", "clip_score_evaluation", *DIVERSITIES, "divergence")


def run_folder(runs: Path, recipe: str, seed: int) -> Path:
    return runs / f"{recipe.replace('/', '-')}-seed{seed}"


def train(runs: Path, recipe: str, seed: int, threads: int) -> None:
    folder = run_folder(runs, recipe, seed)
    if (folder / "report.html").is_file():
        return
    command = [sys.executable, "-m", "adrpo", "train", recipe, f"training.seed={seed}"]
    command += ["--output-dir", str(folder)]
    if (folder / "config.yaml").is_file():
        command.append("--resume")
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    log = runs / f"{folder.name}.log"
    with log.open("ab") as file:
        subprocess.run(command, check=True, env=environment, stdout=file, stderr=file)


def load(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any], list[str]]:
    """First and last evaluation row, per-image values of both, and the prompts' categories."""
    run = RunDirectory.open(folder)
    rows = run.read_evaluations("unseen")
    first, last = rows[0], rows[-1]
    before = read_values(values_path(run, 0))
    after = read_values(values_path(run, last["step"]))
    categories = json.loads((run.samples / "prompts.json").read_text())["categories"]
    return [first, last], before, after, categories


def compare(
    metric: str,
    befores: list[dict[str, Any]],
    afters: list[dict[str, Any]],
    strata: list[str],
) -> dict[str, Any]:
    """Base, tuned, change and share kept of one metric over the seeds, with intervals.

    Prompts without a value on either side (fewer than two right images) are left out.
    """
    before = np.concatenate([values[metric] for values in befores])
    after = np.concatenate([values[metric] for values in afters])
    there = finite_prompts(after, before)
    names = [name for name, kept in zip(strata, there, strict=True) if kept]
    before, after = before[there], after[there]
    result = {
        "prompts": len(names),
        "base": bootstrap_mean(before, names, seed=0)._asdict(),
        "tuned": bootstrap_mean(after, names, seed=0)._asdict(),
        "change": bootstrap_change(before, after, names, seed=0)._asdict(),
        "tuned_by_seed": [float(np.nanmean(values[metric])) for values in afters],
        "change_by_seed": [
            float(np.nanmean(b[metric] - a[metric])) for a, b in zip(befores, afters, strict=True)
        ],
    }
    if metric in DIVERSITIES:
        result["kept"] = bootstrap_ratio(before, after, names, seed=0)._asdict()
    return result


def summarise(runs: Path, recipe: str, seeds: list[int]) -> tuple[dict[str, Any], list[Any]]:
    rows, befores, afters, strata = [], [], [], []
    for seed in seeds:
        pair, before, after, categories = load(run_folder(runs, recipe, seed))
        rows += [{"recipe": recipe, "seed": seed, **row} for row in pair]
        befores.append(before)
        afters.append(after)
        strata += [f"{seed} {category}" for category in categories]
    summary: dict[str, Any] = {"seeds": seeds, "images": rows[-1]["samples"]}
    for metric in METRICS:
        summary[metric] = compare(metric, befores, afters, strata)
    directories = [RunDirectory.open(run_folder(runs, recipe, seed)) for seed in seeds]
    minutes = [run.read_metrics()[-1]["wall_seconds"] / 60 for run in directories]
    summary["minutes_median"] = float(np.median(minutes))
    summary["environment"] = directories[0].read_environment()
    return summary, rows


def guide(runs: Path, recipe: str, seed: int, scale: float) -> dict[str, Any]:
    """The base under guidance against the base without, on a run's evaluation prompts."""
    folder = run_folder(runs, recipe, seed)
    _, before, _, categories = load(folder)
    config = load_flow_config(
        folder / "config.yaml", [f"evaluation.sampling.guidance_scale={scale}"]
    )
    held_out = config.prompts.held_out
    policy = load_policy(config.model)
    evaluator = Evaluator(
        config.evaluation,
        policy,
        build_reward(config.reward, policy.device),
        load_prompts(held_out, size=config.prompts.held_out_size, seed=config.evaluation.seed),
    )
    after = evaluator.measure().values
    # Of the weights, not of the guided field, and so 0 without a meaning.
    compared = [metric for metric in METRICS if metric != "divergence"]
    result = {metric: compare(metric, [before], [after], categories) for metric in compared}
    images = after["gold_accuracy"].size
    return {"seeds": [], "images": images, **result, "environment": environment_record()}


def table(summaries: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| recipe | seeds | gold accuracy | CLIP score | second CLIP | diversity kept "
        "| as L2 distance | among right images | minutes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]

    def cell(metric: dict[str, Any], digits: int) -> str:
        base, tuned, change = metric["base"], metric["tuned"], metric["change"]
        return (
            f"{base['mean']:.{digits}f} → {tuned['mean']:.{digits}f} "
            f"({change['mean']:+.{digits}f} [{change['low']:+.{digits}f}, "
            f"{change['high']:+.{digits}f}])"
        )

    def kept(metric: dict[str, Any]) -> str:
        share = metric["kept"]
        return f"{share['mean']:.2f} [{share['low']:.2f}, {share['high']:.2f}]"

    for recipe, summary in summaries.items():
        minutes = f"{summary['minutes_median']:.0f}" if summary["seeds"] else "none"
        lines.append(
            f"| {recipe} | {len(summary['seeds']) or 'none'} | {cell(summary['gold_accuracy'], 3)} "
            f"| {cell(summary['clip_score'], 1)} | {cell(summary['clip_score_evaluation'], 1)} "
            f"| {' | '.join(kept(summary[metric]) for metric in DIVERSITIES)} "
            f"| {minutes} |"
        )
    return "\n".join(lines) + "\n"


def earlier(output: Path, again: Iterable[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What an earlier call left in ``output``: the summaries, in their order, and the rows of the
    recipes that are not measured ``again``."""
    if not (output / "summary.json").is_file():
        return {}, []
    summaries = json.loads((output / "summary.json").read_text())["recipes"]
    rows = [json.loads(line) for line in (output / "rows.jsonl").read_text().splitlines()]
    return summaries, [row for row in rows if row["recipe"] not in again]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads", type=int, default=2, help="threads of each run")
    parser.add_argument("--runs", type=Path, default=Path("runs/improvement"))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/improvement"))
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)
    jobs = [(recipe, seed) for recipe in arguments.recipes for seed in arguments.seeds]
    with ThreadPoolExecutor(arguments.parallel) as pool:
        list(pool.map(lambda job: train(arguments.runs, *job, arguments.threads), jobs))
    summaries, rows = earlier(arguments.output, arguments.recipes)
    measured: dict[str, dict[str, Any]] = {}
    for recipe in arguments.recipes:
        measured[recipe], more = summarise(arguments.runs, recipe, arguments.seeds)
        rows += more
    guided = guide(arguments.runs, arguments.recipes[0], arguments.seeds[0], GUIDANCE)
    measured[f"base, guidance {GUIDANCE}"] = guided
    command = " ".join(["python", *sys.argv])
    for summary in measured.values():
        summary["command"] = command
    summaries |= measured
    arguments.output.mkdir(parents=True, exist_ok=True)
    record = {"recipes": summaries}
    (arguments.output / "summary.json").write_text(json.dumps(record, indent=1) + "\n")
    (arguments.output / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    draw_comparison(
        run_folder(arguments.runs, arguments.recipes[0], arguments.seeds[0]),
        arguments.output / "pictures.png",
    )
    (arguments.output / "table.md").write_text(table(summaries), encoding="utf-8")
    print(table(summaries))


if __name__ == "__main__":
    main()

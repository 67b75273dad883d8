"""The cost of a result: seconds, samples and network calls until a metric has risen to a level.

``python benchmarks/time_to_result.py LIST.yaml [--parallel 2] [--threads 1] [--only-tell]``

A list (benchmarks/time_lists) names settings: each is a recipe with changes, trained with every
seed on the same prompts. Training alone is counted, without evaluations and the start. Where the
mean over prompts of a seed's metric first reaches the level, between two evaluations, its cost is
read off the straight line between them (``adrpo.comparison.equal_price``, the metric as the price
and the cost as what it buys). Beside it stand what is left there of the base's diversity, and the
ratio to the cost of the first setting, paired by seed and prompt. A setting of which a seed never
comes to the level has no cost: how many seeds came is told.

Seconds are those of a machine that runs ``--parallel`` trainings at a time on ``--threads`` each;
samples (images or completions) and calls are the setting's own; TRL's loop counts no calls, so that
language and audio are told by seconds and completions. Seeds take turns: all settings of a seed
before the next.

Written to benchmarks/results/time_to_result_LIST: ``summary.json``, with the curves, and
``table.md``. A stopped run goes on; ``--only-tell`` reads what is there.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from results_folder import markdown, write_results

from adrpo.comparison import LocalWorkers, Plan, collect, jobs_of, record, run_jobs
from adrpo.comparison.collect import MethodResults
from adrpo.comparison.equal_price import Array, Course, read_off
from adrpo.errors import AdrpoError
from adrpo.evaluation.intervals import Estimate, mean_over_seeds, paired_difference
from adrpo.metrics import UNSEEN
from adrpo.runs.directory import RunDirectory
from adrpo.runs.environment import environment_record
from adrpo.runs.resuming import flatten

RESULTS = Path("benchmarks/results")
COSTS = {
    "flow": {"seconds_step": "seconds", "samples": "images", "model_calls": "network calls"},
    "llm": {"seconds_step": "seconds", "samples": "completions"},
    "audio": {"seconds_step": "seconds", "samples": "completions"},
}
"""Domain -> columns of metrics.jsonl -> the names of their sums; the last is the one whose ratio a
table tells beside that of seconds."""


@dataclass(frozen=True)
class Asked:
    """A list of settings, as its file has it."""

    recipe: str
    settings: dict[str, dict[str, Any]]
    """Name -> what differs from the recipe; the first is the one that the others are held to."""
    overrides: tuple[str, ...]
    seeds: int
    metric: str
    levels: tuple[float, ...]
    kept: tuple[str, ...]
    """Metrics of which the share of the base's is told that is left at the level."""

    @property
    def costs(self) -> dict[str, str]:
        return COSTS[self.recipe.partition("/")[0]]

    @classmethod
    def read(cls, file: Path) -> "Asked":
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
        for name in ("overrides", "levels", "kept"):
            found[name] = tuple(found[name])
        return cls(**found)

    def plan(self, folder: Path) -> Plan:
        """The comparison of the settings, with a recipe file for each in ``folder``."""
        recipes = folder / "recipes"
        recipes.mkdir(parents=True, exist_ok=True)
        paths = []
        for name, changes in self.settings.items():
            paths.append(recipes / f"{name}.yaml")
            text = yaml.safe_dump({"extends": self.recipe, **changes})
            paths[-1].write_text(text, encoding="utf-8")
        names = [str(path) for path in paths]
        return Plan.resolve(folder / "comparison", names, self.overrides, self.seeds, None)


def spent(method: MethodResults, steps: list[int], asked: Asked) -> dict[str, Array]:
    """Cost -> its sum over the training steps up to each evaluation, [seeds, evaluations]; a run
    that diverged spends nothing more."""
    found = {}
    rows = [RunDirectory.open(folder).read_metrics() for folder in method.folders]
    for column, name in asked.costs.items():
        sums = [np.cumsum([0.0, *(row[column] for row in of_seed)]) for of_seed in rows]
        found[name] = np.array([own[np.minimum(steps, len(own) - 1)] for own in sums])
    return found


def costs_at(
    method: MethodResults, asked: Asked, level: float
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Cost -> its linearised values [seeds, prompts] where the metric reaches ``level``, and what
    is told beside them; no costs where a seed does not come to it."""
    part = method.splits[UNSEEN]
    prices = part.by_prompt[asked.metric]
    if (base := float(prices[:, 0].mean(axis=1).max())) >= level:
        raise AdrpoError(f"levels: expected one above the base's {base:.3f}; received {level:g}")
    found, missing = {}, 0
    totals = spent(method, part.steps, asked)
    for name, table in totals.items():
        of_prompts = np.broadcast_to(table[:, :, None], prices.shape)
        found[name], missing = read_off(Course(of_prompts, prices), level, root=False)
    seeds = len(prices)
    beside: dict[str, Any] = {"seeds": seeds, "reached": seeds - missing}
    if missing:
        return {}, beside
    drawn = asked.costs["samples"]
    places = found[drawn].mean(axis=1)
    for name in asked.kept:
        shares = part.curves[name] / part.curves[name][:, :1]
        there = map(np.interp, places, totals[drawn], shares)
        beside[f"{name}_kept"] = float(np.mean(list(there)))
    return found, beside


def logs(costs: Array) -> Array:
    """Linearised values [seeds, prompts] of the logarithm of each seed's cost."""
    of_seed = costs.mean(axis=1, keepdims=True)
    return np.log(of_seed) + costs / of_seed - 1


def row_of(
    method: MethodResults, first: dict[str, Array], asked: Asked, level: float
) -> dict[str, Any]:
    """The costs of a setting up to ``level``, with the ratios to those of the ``first``, as
    geometric means over seeds."""
    values, told = costs_at(method, asked, level)
    categories = method.splits[UNSEEN].categories
    for name, own in values.items():
        told[name] = shown(mean_over_seeds(own, categories))
        if first:
            ratio = paired_difference(logs(own), logs(first[name]), categories)
            told[f"{name}_ratio"] = {key: math.exp(value) for key, value in shown(ratio).items()}
    return {"setting": method.name.split("/")[-1], "level": level, **told}


def shown(estimate: Estimate) -> dict[str, float]:
    return {"mean": estimate.mean, "low": estimate.low, "high": estimate.high}


def tell(asked: Asked, methods: Sequence[MethodResults]) -> list[dict[str, Any]]:
    """A row for each level and setting."""
    rows = []
    for level in asked.levels:
        first, _ = costs_at(methods[0], asked, level)
        rows += [row_of(method, first, asked, level) for method in methods]
    return rows


def table(asked: Asked, rows: list[dict[str, Any]]) -> str:
    words = list(asked.costs.values())
    ratios = [words[0], words[-1]]
    heads = ["to", "setting", "seeds there", *words, *(f"ratio of {name}" for name in ratios)]
    heads += [f"{name} kept" for name in asked.kept]
    shown = []
    for row in rows:
        cells = [f"{asked.metric} {row['level']:g}", row["setting"]]
        cells.append(f"{row['reached']} of {row['seeds']}")
        if row["reached"] == row["seeds"]:
            cells += [f"{row[name]['mean']:,.0f}" for name in words]
            for name in ratios:
                ratio = row.get(f"{name}_ratio")
                said = "not told" if ratio is None else "{mean:.2f} [{low:.2f}, {high:.2f}]"
                cells.append(said.format(**(ratio or {})))
            cells += [f"{row[f'{name}_kept']:.3f}" for name in asked.kept]
        shown.append(cells + [""] * (len(heads) - len(cells)))
    return markdown(heads, shown)


def curves(asked: Asked, methods: Sequence[MethodResults]) -> dict[str, Any]:
    """Setting -> steps of its evaluations, and by seed what was read."""
    found = {}
    for method in methods:
        part = method.splits[UNSEEN]
        found[method.name.split("/")[-1]] = {
            "steps": part.steps,
            **{key: part.curves[key].round(5).tolist() for key in (asked.metric, *asked.kept)},
            **{
                name: own.round(2).tolist()
                for name, own in spent(method, part.steps, asked).items()
            },
        }
    return found


def commits(methods: Sequence[MethodResults]) -> list[str]:
    """Commits that the runs were made at; a stopped list may have gone on at another."""
    files = [folder / "environment.json" for method in methods for folder in method.folders]
    records = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return sorted({record["git"]["commit"] for record in records})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("list", type=Path)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=Path, help="runs/time_to_result/LIST unless told")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--only-tell", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    environment = environment_record()  # before the first file makes a clean tree another one
    asked, name = Asked.read(arguments.list), arguments.list.stem
    plan = asked.plan(arguments.runs or Path("runs/time_to_result") / name)
    if not arguments.only_tell:
        record(plan)
        workers = LocalWorkers(parallel=arguments.parallel, threads=arguments.threads)
        failures = run_jobs(jobs_of(plan), plan.overrides, workers=workers)
        if failures:
            said = (f"{failure.job.folder.name}: {failure.reason}" for failure in failures)
            sys.exit("\n".join(said))
    results = collect(plan)
    methods = list(results.methods.values())
    rows = tell(asked, methods)
    content = {
        "seeds": results.seeds,
        "commits": commits(methods),
        "parallel": arguments.parallel,
        "threads": arguments.threads,
        "overrides": asked.overrides,
        "settings": {key: flatten(changes) for key, changes in asked.settings.items()},
        "rows": rows,
        "curves": curves(asked, methods),
    }
    folder = arguments.output / f"time_to_result_{name}"
    write_results(folder, content, table(asked, rows), environment)


if __name__ == "__main__":
    main()

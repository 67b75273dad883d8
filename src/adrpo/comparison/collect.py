"""Reads the finished runs of a comparison into arrays."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adrpo.comparison.plan import (
    Flat,
    Plan,
    check_evaluated_alike,
    reward_names,
    settings_that_differ,
    without_seed,
)
from adrpo.comparison.reference_lines import BASE, ReferenceLine, read_lines
from adrpo.comparison.schedule import jobs_of
from adrpo.errors import AdrpoError
from adrpo.evaluation.values import values_path
from adrpo.metrics import CHANGE, EVALUATIONS, INTERVAL, SPLITS, TOTAL, UNSEEN, category
from adrpo.runs.directory import Row, RunDirectory
from adrpo.runs.inputs import read_record
from adrpo.runs.record import check_record
from adrpo.runs.resuming import MAY_DIFFER, settings_of

Array = NDArray[np.float64]
Values = dict[str, Array]

LISTED = ("held_out", "categories", "references")
"""Keys of samples/prompts.json that tell of the unseen prompts, and of the pictures that images are
compared with."""

COSTS = ("model_calls", "samples")
"""Columns of metrics.jsonl that count what a step cost."""

MEASURED_ALIKE = (
    "prompts.", "evaluation.clip", "evaluation.distances", "evaluation.samples_per_prompt",
)  # fmt: skip
"""Keys and sections in which the evaluation of another model must agree with the runs; how it is
drawn, by ``evaluation.sampling``, is the model's own affair."""

TRAINED_ON = "prompts.train"
"""Beginning of the keys that say what is trained on, which an evaluation does not depend on."""

OWN_GUIDANCE = ("evaluation.sampling.guidance_scale", "training.guidance_scale")
"""Keys of the guidance that the base's own row is drawn with, and that its velocity has."""

AGAINST_ITS_BASE = frozenset(metric.name for metric in EVALUATIONS if metric.against_base)
"""Metrics against a model's own base, which is not the comparison's."""


@dataclass(frozen=True)
class SplitResults:
    """One method's evaluations of one split."""

    steps: list[int]
    """Steps of the evaluations; 0 is the base."""
    curves: dict[str, Array]
    """Metric -> its mean [seeds, evaluations]."""
    by_prompt: dict[str, Array]
    """Metric -> the means over images [seeds, evaluations, prompts]."""
    base: Values
    """Metric -> [seeds, prompts, K], or [seeds, prompts] for a metric of a prompt."""
    final: Values
    categories: list[str]


@dataclass(frozen=True)
class MethodResults:
    """The finished runs of one method, seed by seed."""

    name: str
    settings: Flat
    folders: list[Path]
    splits: dict[str, SplitResults]
    minutes: list[float]
    """Wall time of each run, evaluations included."""
    costs: dict[str, Array]
    """Column of metrics.jsonl -> its sum up to each step [seeds, steps + 1]: samples, and network
    calls where the rows have them."""
    diverged: dict[Path, int]
    """Folder -> step of the runs that diverged: from there on they count as the base, since they
    leave nothing else to use."""


@dataclass(frozen=True)
class Results:
    """The runs of a comparison: all its methods, with the seeds that all of them finished."""

    plan: Plan
    seeds: list[int]
    methods: dict[str, MethodResults]
    others: dict[str, Values]
    """Rows of what nothing here trained, the base's reference lines first: metric -> [1, prompts,
    K] of the unseen prompts."""
    lines: list[ReferenceLine]
    not_compared: list[str]
    """Metrics that the methods measure otherwise under one name: rewards by other models,
    velocities at another guidance. No split has them."""

    @property
    def splits(self) -> list[str]:
        """The splits that every run evaluated, the unseen prompts first."""
        return [
            split
            for split in SPLITS
            if all(split in method.splits for method in self.methods.values())
        ]


def collect(plan: Plan, beside: Sequence[Path] = ()) -> Results:
    """Read the seeds that every method has finished, and the evaluations ``beside`` them: folders
    that ``adrpo evaluate`` wrote.

    Raises AdrpoError where there is none, a run is not of its recipe, the runs were evaluated on
    different prompts, the values of an evaluation are missing, or a model was not measured like
    the runs.
    """
    jobs = jobs_of(plan)
    unfinished = [job for job in jobs if not job.is_finished()]
    incomplete = {job.seed for job in unfinished}
    seeds = [seed for seed in plan.seeds if seed not in incomplete]
    if not seeds:
        raise AdrpoError(
            f"{plan.folder}: expected a seed with which every method has finished; received "
            f"{len(jobs) - len(unfinished)} of {len(jobs)} runs, {unfinished[0].folder} is not "
            f"finished; run the comparison again"
        )
    methods = {}
    for method in plan.methods:
        folders = [plan.run_folder(method, seed) for seed in seeds]
        for folder in folders:
            _check_is_of(folder, method.name, method.settings)
        methods[method.name] = read_method(method.name, method.settings, folders)
    check_evaluated_alike(
        {name: method.settings for name, method in methods.items()}, plan.machine_keys
    )
    _check_same_prompts([folder for method in methods.values() for folder in method.folders])
    not_compared = _leave_out_unlike(list(methods.values()))
    others = _others(beside, methods, plan.reference)
    rows, lines = _lines(methods[plan.reference], plan.folder)
    twice = next((name for name in rows if name in (*methods, *others)), None)
    if twice is not None:
        raise AdrpoError(
            f"compare: expected rows of different names; received {twice!r} beside the row of the "
            f"untrained base that has this name; rename the recipe or the folder"
        )
    return Results(plan, seeds, methods, rows | others, lines, not_compared)


def read_listing(folder: Path) -> dict[str, Any]:
    """samples/prompts.json of a run."""
    path = folder / "samples" / "prompts.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AdrpoError(
            f"{path}: expected the prompts of a run's evaluation; {error}; restore the file, or "
            f"delete the run and compare again"
        ) from None


def read_method(name: str, settings: Flat, folders: Sequence[Path]) -> MethodResults:
    """The finished runs of one method, a folder for each seed, whatever their settings are."""
    runs = [RunDirectory.open(folder) for folder in folders]
    for run in runs:
        check_record(run, "samples/step-", "samples/prompts.json", "metrics.", "evaluations.")
    rows = [run.read_evaluations() for run in runs]
    splits = {}
    for split in SPLITS:
        of_split = [[row for row in part if row.get("split", UNSEEN) == split] for part in rows]
        if all(of_split):
            splits[split] = _split(runs, of_split, split, settings)
    minutes = [(run.read_metrics() or [{}])[-1].get("wall_seconds", 0.0) / 60 for run in runs]
    diverged = {run.path: step for run in runs if (step := run.diverged_at()) is not None}
    last = max((part.steps[-1] for part in splits.values()), default=0)
    costs = _costs([run.read_metrics() for run in runs], last)
    return MethodResults(name, settings, list(folders), splits, minutes, costs, diverged)


def _costs(rows: Sequence[list[Row]], last: int) -> dict[str, Array]:
    """Sums of the COSTS that every row has, up to the ``last`` evaluated step at least; a run that
    diverged spends nothing more."""
    steps = max(last, *map(len, rows))
    found: dict[str, Array] = {}
    for column in COSTS:
        if all(row.get(column) is not None for of_run in rows for row in of_run):
            table = np.zeros((len(rows), steps + 1))
            for place, of_run in enumerate(rows):
                table[place, 1 : len(of_run) + 1] = [row[column] for row in of_run]
            found[column] = table.cumsum(axis=1)
    return found


def _split(
    runs: Sequence[RunDirectory], rows: list[list[Row]], split: str, settings: Flat
) -> SplitResults:
    steps = sorted({row["step"] for part in rows for row in part})
    ends = [run.diverged_at() for run in runs]
    if None not in ends:
        # No run of the method has come to its end, which its settings tell.
        steps = sorted({*steps, int(settings["training.steps"])})
    by_step = [
        _filled({row["step"]: row for row in part}, end, steps)
        for part, end in zip(rows, ends, strict=True)
    ]
    first = by_step[0][steps[0]]
    metrics = [
        key
        for key in first
        if f"{key}{INTERVAL[0]}" in first and not key.endswith(CHANGE) and category(key) is None
    ]
    curves = {
        key: np.array([[_number(part.get(step, {}), key) for step in steps] for part in by_step])
        for key in metrics
    }
    at_steps = [
        _stack(
            [
                _read_values(run, part[step]["step"] if step in part else step, split)
                for run, part in zip(runs, by_step, strict=True)
            ]
        )
        for step in steps
    ]
    base, final = at_steps[0], at_steps[-1]
    prompts = next(iter(final.values())).shape[1]
    by_prompt = {
        name: np.stack(
            [table[name].reshape(len(runs), prompts, -1).mean(axis=2) for table in at_steps], axis=1
        )
        for name in final
        if all(name in table for table in at_steps)
    }
    listed = [_categories(read_listing(run.path), split, prompts) for run in runs]
    # Seen prompts are each seed's own: where their categories differ, a column has none.
    categories = listed[0] if all(own == listed[0] for own in listed) else [""] * prompts
    return SplitResults(steps, curves, by_prompt, base, final, categories)


def _filled(rows: dict[int, Row], diverged: int | None, steps: Sequence[int]) -> dict[int, Row]:
    """Step -> row of the evaluations of one run, with the base's where it had diverged."""
    if diverged is None:
        return rows
    return {step: rows.get(step, rows[0]) for step in steps}


def _others(
    folders: Sequence[Path], methods: dict[str, MethodResults], reference: str
) -> dict[str, Values]:
    """The last evaluation of each folder, by the folder's name."""
    found: dict[str, Values] = {}
    for folder in folders:
        name = folder.resolve().name
        if name in (*methods, *found, BASE):
            raise AdrpoError(
                f"--beside: expected folders of other names than the rows of the table; received "
                f"{folder} beside a row {name!r}; rename the folder"
            )
        run = RunDirectory.open(folder)
        _check_measured_alike(run, methods[reference])
        rows = run.read_evaluations(UNSEEN)
        if not rows:
            raise AdrpoError(f"--beside: expected an evaluation; {run.evaluations} has none")
        values = _stack([_read_values(run, rows[-1]["step"], UNSEEN)])
        found[name] = {key: table for key, table in values.items() if key not in AGAINST_ITS_BASE}
    return found


def _lines(reference: MethodResults, folder: Path) -> tuple[dict[str, Values], list[ReferenceLine]]:
    """Rows and lines of the base of the comparison in ``folder``."""
    split = reference.splits.get(UNSEEN)
    if split is None:
        return {}, []
    drawn, measured = (reference.settings.get(key) for key in OWN_GUIDANCE)
    own = drawn if drawn == measured else None
    return read_lines(folder, own, len(split.categories))


def _check_measured_alike(run: RunDirectory, method: MethodResults) -> None:
    """Raise AdrpoError where prompts, judges or rewards of the same name differ."""
    received = without_seed(settings_of(run))
    differing = settings_that_differ(received, method.settings)
    wanted = (key for key in differing if key.startswith(MEASURED_ALIKE))
    key = next((key for key in wanted if not key.startswith(TRAINED_ON)), None)
    ours, theirs = (_terms(settings) for settings in (received, method.settings))
    for term in ours.keys() & theirs.keys():
        if key is None and ours[term] != theirs[term]:
            key, differing = f"reward {term}", {f"reward {term}": (ours[term], theirs[term])}
    listings = [read_listing(folder) for folder in (run.path, method.folders[0])]
    if key is None and any(listings[0].get(k) != listings[1].get(k) for k in LISTED):
        named = "prompts or references"
        key, differing = named, {named: ("others", "those of its samples/")}
    if key is not None:
        own, expected = differing[key]
        raise AdrpoError(
            f"--beside: expected a model that is measured like the runs; {run.path} has {key} = "
            f"{own!r}, but {method.name} has {expected!r}; evaluate it with `adrpo evaluate MODEL "
            f"--recipe RECIPE`, RECIPE one of the comparison's"
        )


def _terms(settings: Flat) -> dict[str, Any]:
    """Name -> what decides the values, of the rewards, trained on or not."""
    return {
        name: (term["name"], term.get("options"), term.get("logistic"))
        for key in ("reward", "evaluation.rewards")
        for name, term in zip(reward_names(settings, key), settings.get(key, []), strict=True)
    }


def _leave_out_unlike(methods: Sequence[MethodResults]) -> list[str]:
    """Take out of all splits what ``methods`` measure otherwise under one name, and tell it:
    rewards of other options, and with them the total, and what is measured at other settings."""
    found: dict[str, list[Any]] = {}
    for method in methods:
        for name, (reward, options, _) in _terms(method.settings).items():
            found.setdefault(name, []).append((reward, options))
    unlike = [name for name, terms in found.items() if any(term != terms[0] for term in terms)]
    parts = [part for method in methods for part in method.splits.values()]
    if unlike:
        unlike.append(TOTAL)
    for metric in EVALUATIONS:
        key = metric.measured_at
        if key and len({method.settings.get(key) for method in methods}) > 1:
            unlike.append(metric.name)
    left_out = [name for name in unlike if any(name in part.final for part in parts)]
    for part in parts:
        for values in (part.curves, part.by_prompt, part.base, part.final):
            for name in left_out:
                values.pop(name, None)
    return left_out


def _number(row: Row, key: str) -> float:
    value = row.get(key)
    return float("nan") if value is None else float(value)


def _read_values(run: RunDirectory, step: int, split: str) -> Values:
    path = values_path(run, step, split)
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AdrpoError(
            f"{path}: expected the values of an evaluation; {error}; delete the run and compare "
            f"again"
        ) from None
    return {name: np.asarray(column, dtype=np.float64) for name, column in table.items()}


def _stack(values: Sequence[Values]) -> Values:
    """Each metric that all seeds have, as [seeds, ...]."""
    shared = [name for name in values[0] if all(name in other for other in values)]
    return {name: np.stack([table[name] for table in values]) for name in shared}


def _categories(listing: dict[str, Any], split: str, prompts: int) -> list[str]:
    """The category of each prompt; one stratum where the run does not record them."""
    key = "categories" if split == UNSEEN else f"{split}_categories"
    found = listing.get(key)
    return found if isinstance(found, list) and len(found) == prompts else [""] * prompts


def _check_is_of(folder: Path, name: str, settings: Flat) -> None:
    own = without_seed(settings_of(RunDirectory.open(folder)))
    for key, (received, expected) in settings_that_differ(own, settings).items():
        if key not in MAY_DIFFER:
            raise AdrpoError(
                f"{folder / 'config.yaml'} has {key}={received!r}, but {name} has {expected!r} "
                f"here; delete the run and compare again, or choose another --output-dir"
            )


def _held_out(folder: Path, beside: Path) -> list[Any] | None:
    """The digests of a run's held-out prompts; None where it or the run ``beside`` kept none."""
    records = [read_record(RunDirectory.open(run)) for run in (folder, beside)]
    own = None if None in records else records[0]
    return None if own is None else [mark[0] for mark in own["prompts"]["held_out"]]


def _check_same_prompts(folders: Sequence[Path]) -> None:
    first, *others = folders
    expected = read_listing(first)
    for folder in others:
        received = read_listing(folder)
        unlike = any(received.get(key) != expected.get(key) for key in LISTED)
        if unlike or _held_out(folder, first) != _held_out(first, folder):
            raise AdrpoError(
                f"compare: expected all runs on the same held-out prompts and reference pictures; "
                f"{first} and {folder} have different ones; delete the run whose prompt file or "
                f"pictures have changed since, and compare again"
            )

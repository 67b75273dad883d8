"""Writes one page for several runs: their results beside each other, their curves in one chart."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adrpo.errors import AdrpoError
from adrpo.metrics import SPLITS, TOTAL, UNSEEN, describe, names, ordered, with_role
from adrpo.report.completions import HeldOutTexts, held_out_completions
from adrpo.report.drawing import MOST_SERIES
from adrpo.report.kept import damage_lines, judges_trained_on, kept_weights, own_reward_lines
from adrpo.report.numbers import Printed, capital, duration, fixed
from adrpo.report.overlay import Curves, overlaid
from adrpo.report.page import scored_pictures
from adrpo.report.pictures import HeldOut
from adrpo.report.render import render
from adrpo.report.source import Source
from adrpo.report.summary import MetricRow, finite, leading, metric_table
from adrpo.runs.directory import RunDirectory
from adrpo.runs.durable import write_durably
from adrpo.runs.facts import read_facts
from adrpo.runs.resuming import flatten
from adrpo.runs.reward_terms import reward_terms
from adrpo.runs.symptoms import STEPS, symptoms

PROMPTS = 12
"""Held-out prompts shown of runs beside each other."""

SAMPLES = 2
"""Samples of a prompt shown of each run."""

WORDS = ("description", "source")
"""Settings that are words, and no difference."""


@dataclass(frozen=True)
class Shown:
    """A run as the page of several shows it."""

    name: str
    series: int
    """The number of its color, from 1."""
    source: Source
    terms: dict[str, str]
    rows: dict[str, MetricRow]
    """Metric -> its row of the table of unseen prompts."""
    final_step: int | None

    @property
    def state(self) -> str:
        """The steps done of those planned, and the time that is left."""
        source = self.source
        done = source.metrics[-1]["step"] if source.metrics else 0
        planned = source.planned
        if not source.trains:
            return "evaluation"
        if (step := source.run.diverged_at()) is not None:
            return f"diverged at step {fixed(step, 0)}"
        if planned is None or done >= planned:
            return f"{fixed(done, 0)} steps"
        left = source.seconds_left()
        pace = "" if left is None or source.run.final.is_dir() else f", {duration(left)} left"
        return f"{fixed(done, 0)} of {fixed(planned, 0)} steps{pace}"

    @property
    def time(self) -> str:
        """The time since the run began, at its last step."""
        wall = finite(self.source.metrics[-1], "wall_seconds") if self.source.metrics else None
        return "–" if wall is None else duration(wall)


def write_overview(runs: Sequence[Path], page: Path) -> Path:
    """Write one page about ``runs`` to ``page`` and return it.

    It lays finished runs and runs in progress beside each other: results on unseen prompts, curves,
    pictures or completions of the same prompts, the settings that differ. Its numbers describe;
    ``adrpo compare`` tests differences, over seeds.

    Args:
        runs: folders of runs, in the order of the page, 2 to 8 of them.
        page: the file; a former one is replaced.

    Raises:
        AdrpoError: too few or too many runs, one named twice, a folder that is no run, or a file
            of a run that can't be read.
    """
    check_runs(runs)
    sources = [Source.read(RunDirectory.open(run)) for run in runs]
    page.parent.mkdir(parents=True, exist_ok=True)
    write_durably(page, render("report/overview.html.j2", overview_context(sources)).encode())
    return page


def check_runs(runs: Sequence[Path]) -> None:
    """Raise AdrpoError where ``runs`` are too many for one page, or one is there twice."""
    if len(runs) > MOST_SERIES:
        raise AdrpoError(
            f"report: expected at most {MOST_SERIES} runs for one page; received {len(runs)}; "
            f"leave some out"
        )
    folders = [run.resolve() for run in runs]
    for place, folder in enumerate(folders):
        if folder in folders[:place]:
            raise AdrpoError(f"report: expected each run once; received {runs[place]} twice")


def overview_context(sources: Sequence[Source]) -> dict[str, Any]:
    """The content of the page of several runs, as its template takes it."""
    called = names_of([source.run.path for source in sources])
    pairs = zip(called, sources, strict=True)
    runs = [_shown(name, place, source) for place, (name, source) in enumerate(pairs, 1)]
    terms = {name: weighed for run in runs for name, weighed in run.terms.items()}
    first, told = _front(runs)
    facts = [read_facts(run.source.run) for run in runs]
    domains = {fact.domain for fact in facts}
    context = {
        "name": ", ".join(called),
        "maker": "adrpo",
        "headline": [(f"{len(runs)} runs beside each other", False)],
        "facts": [],
        "runs": runs,
        "lead": first[0] if first else "",
        "told": told,
        "lead_label": capital(describe(first[0]).label) if first else "",
        "notices": [line for run in runs for line in _notices(run)],
        "samples": facts[0].samples,
        "metrics": _metrics(runs, first),
        "figures": overlaid(
            [
                Curves(run.name, run.series, run.source.metrics, run.source.evaluations)
                for run in runs
            ],
            first,
            terms,
            domains.pop() if len(domains) == 1 else "",
        ),
        **_samples(runs),
        "settings": settings_apart(runs),
    }
    return {**context, "sections": _sections(context)}


def names_of(paths: Sequence[Path]) -> list[str]:
    """Names of folders that tell them apart: their own, with as much of their parents as needed."""
    parts = [path.resolve().parts for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        found = ["/".join(part[-count:]).lstrip("/") for part in parts]
        if len(set(found)) == len(found):
            return found
    return found


def _shown(name: str, series: int, source: Source) -> Shown:
    run = source.run
    terms, kept = reward_terms(run), kept_weights(run, source.config)
    table = metric_table(
        source.evaluations,
        _split(source),
        kept.step or None if kept else None,
        trained=judges_trained_on(run),
        first=leading(terms),
    )
    rows = {row.key: row for row in table.metrics} if table else {}
    return Shown(name, series, source, terms, rows, table.final_step if table else None)


def _split(source: Source) -> str:
    """The split that a run is judged by: the unseen prompts, unless it has seen ones alone."""
    found = {row.get("split") for row in source.evaluations}
    return next((split for split in SPLITS if split in found), UNSEEN)


def _front(runs: Sequence[Shown]) -> tuple[list[str], str]:
    """The metrics in front, the first of them in the table of runs, and what it is, in words.

    Runs of one reward have it there. The sums of different rewards are in units of their own, and
    what all runs have of a judge's, or of a term, stands there.
    """
    rewards = [(run.terms, run.source.config.get("reward")) for run in runs]
    if all(reward == rewards[0] for reward in rewards):
        first = leading(runs[0].terms)
        label = capital(describe(first[0]).label)
        return first, f"{label} is what they are trained on, measured on unseen prompts"
    measured = [run.rows.keys() for run in runs if run.rows]
    shared = set.intersection(*map(set, measured)) - {TOTAL} if measured else set[str]()
    judges = [name for name in names(with_role("judge")) if name in shared]
    terms = [name for run in runs for name in run.terms if name in shared]
    first = [*judges[:1], *dict.fromkeys(terms)] or ordered(shared)[:1]
    told = "They are trained on different rewards"
    if first:
        told += f", and told by {describe(first[0]).in_sentence} here, measured on unseen prompts"
    return first, told


def _notices(run: Shown) -> list[str]:
    directory, planned = run.source.run, finite(run.source.config.get("training"), "steps")
    lines = [*run.source.faults, *damage_lines(directory), *own_reward_lines(directory)]
    steps = STEPS if planned is None else int(planned)
    told = symptoms(run.source.metrics, run.source.config, steps, run.source.evaluations)
    return [f"{run.name}: {line}" for line in [*lines, *(f"training, {line}." for line in told)]]


def _metrics(runs: Sequence[Shown], first: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of the table of metrics: a cell for the base, and one for each run."""
    found = {key for run in runs for key in run.rows}
    return [
        {
            "key": key,
            "label": capital(describe(key).label),
            "note": describe(key).note,
            "base": _shared_base([run.rows[key] for run in runs if key in run.rows]),
            "cells": [run.rows.get(key) for run in runs],
        }
        for key in ordered(found, first)
    ]


def _shared_base(rows: Sequence[MetricRow]) -> Printed | None:
    """The base's value where all runs that have one print the same."""
    bases = {row.base for row in rows if row.base is not None}
    return bases.pop() if len(bases) == 1 else None


def _samples(runs: Sequence[Shown]) -> dict[str, Any]:
    """Pictures and completions of the prompts that all runs show."""
    pictures, texts = [], []
    for run in runs:
        pictures.append({group.prompt: group for group in scored_pictures(run.source)})
        texts.append({g.prompt: g for g in held_out_completions(run.source.run.samples)})
    return {
        "pictures": [
            (prompt, groups[0].base[:SAMPLES], [group.final[:SAMPLES] for group in groups])
            for prompt, groups in _shared(pictures)
        ],
        "texts": [
            (prompt, groups[0].base[:SAMPLES], [group.final[:SAMPLES] for group in groups])
            for prompt, groups in _shared_texts(texts)
        ],
    }


def _shared(found: Sequence[dict[str, HeldOut]]) -> list[tuple[str, list[HeldOut]]]:
    prompts = [p for p in found[0] if all(p in by_prompt for by_prompt in found)]
    return [(p, [by_prompt[p] for by_prompt in found]) for p in prompts[:PROMPTS]]


def _shared_texts(
    found: Sequence[dict[str, HeldOutTexts]],
) -> list[tuple[str, list[HeldOutTexts]]]:
    prompts = [p for p in found[0] if all(p in by_prompt for by_prompt in found)]
    return [(p, [by_prompt[p] for by_prompt in found]) for p in prompts[:PROMPTS]]


def settings_apart(runs: Sequence[Shown]) -> list[tuple[str, list[str]]]:
    """(key, the value of each run) of the settings in which the runs differ, words aside."""
    flat = [flatten(run.source.config) for run in runs]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    return [
        (key, [_text(settings, key) for settings in flat])
        for key in keys
        if key not in WORDS and any(_text(s, key) != _text(flat[0], key) for s in flat)
    ]


def _text(settings: Mapping[str, Any], key: str) -> str:
    if key not in settings:
        return "–"
    value = settings[key]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _sections(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    shown = {
        ("runs", "Runs"): True,
        ("curves", "Curves"): context["figures"],
        ("metrics", "Metrics"): context["metrics"],
        ("pictures", "Pictures"): context["pictures"],
        ("completions", "Completions"): context["texts"],
        ("settings", "Settings"): True,
    }
    return [section for section, there in shown.items() if there]

"""Writes ``report.html``: one self-contained page for one run, from the run's files only."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adrpo.errors import AdrpoError
from adrpo.metrics import SPLITS, describe, names, with_role
from adrpo.report.completions import held_out_completions
from adrpo.report.figures import evaluation_figures, training_figures
from adrpo.report.kept import (
    damage_lines,
    judges_trained_on,
    kept_weights,
    own_reward_lines,
    start_notices,
)
from adrpo.report.loading import snippets
from adrpo.report.numbers import compact, duration, fixed
from adrpo.report.pictures import HeldOut, held_out_pictures, read_prompts, strip_pictures
from adrpo.report.render import render
from adrpo.report.scores import read_scores
from adrpo.report.source import Source
from adrpo.report.summary import beside, finite, headline, leading, metric_table, unscored
from adrpo.runs.directory import RunDirectory
from adrpo.runs.durable import write_durably
from adrpo.runs.facts import read_facts
from adrpo.runs.notices import notices_of
from adrpo.runs.recipe import changes, described
from adrpo.runs.reward_terms import reward_terms
from adrpo.runs.symptoms import STEPS, symptoms

Row = Mapping[str, Any]

SHOWN_PROMPTS = 12
"""Held-out prompts whose pictures are shown at once; the others unfold."""

SHOWN_TEXTS = 6
"""Held-out prompts whose completions are shown at once."""

PHASES = {
    metric.name.removeprefix("seconds_"): metric for metric in with_role("phase", file="metrics")
}
"""Short name of a phase, as the style sheet has it -> its column."""

PLACES = (
    ("Model", "model", "pretrained"),
    ("Method", "algorithm", "method"),
    ("β₀", "algorithm", "beta_0"),
    ("Coefficient", "algorithm", "coefficient"),
    ("Anchor", "algorithm", "anchor"),
    ("Learning rate", "training", "learning_rate"),
    ("Seed", "training", "seed"),
)
"""Label, section and key of the settings that are told under the headline; of an evaluation the
first."""


def write_report(run_path: Path) -> Path:
    """Write the page of the run at ``run_path`` and return its path.

    A run in progress gives a page that says what is missing, and a folder that ``adrpo evaluate``
    wrote one of its evaluation. Raises AdrpoError where the folder is no run, or has neither a
    training step nor an evaluation yet. Equal run files give an equal page.
    """
    run = RunDirectory.open(run_path)
    source = Source.read(run)
    if not source.metrics and not source.evaluations:
        raise AdrpoError(
            f"expected at least one training step in metrics.jsonl, or an evaluation; received "
            f"none in {run.path}; report the run once it has trained a step"
        )
    write_durably(run.report, render("report/page.html.j2", page_context(source)).encode())
    return run.report


def page_context(source: Source) -> dict[str, Any]:
    """The content of a run's page, as its template takes it."""
    run, config, metrics, evaluations = (
        source.run, source.config, source.metrics, source.evaluations,
    )  # fmt: skip
    kept = kept_weights(run, config)
    step = kept.step or None if kept else None
    trained, terms = judges_trained_on(run), reward_terms(run)
    first = leading(terms)
    tables = [
        table
        for split in SPLITS
        if (table := metric_table(evaluations, split, step, trained=trained, first=first))
    ]
    beta_0 = finite(config.get("algorithm"), "beta_0")
    facts = read_facts(run)
    said = notices_of(run)
    context = {
        "name": run.path.resolve().name,
        "maker": "adrpo",
        "domain": facts.domain,
        "samples": facts.samples,
        "description": described(run),
        "headline": headline(tables[0] if tables else None),
        "also": beside(tables[0] if tables else None, said),
        "facts": _facts(source),
        "notices": [
            *progress_lines(source),
            *source.faults,
            *damage_lines(run),
            *start_notices(config),
            *([kept.sentence] if kept else []),
            *own_reward_lines(run),
            *(f"{line}." for line in said),
        ],
        "look_at": symptoms(metrics, config, _planned(config), evaluations),
        # Samples are shown of the last evaluation.
        "tuned": f"Fine-tuned, step {fixed(kept.last, 0)}" if kept else "Fine-tuned",
        "tables": [(table, unscored(table, facts.samples)) for table in tables],
        # An evaluation alone is no course.
        "figures": [
            *evaluation_figures(evaluations, trained, first),
            *training_figures(metrics, beta_0, facts.domain, terms),
        ]
        if source.trains
        else [],
        **_samples(source),
        "trains": source.trains,
        "timed": bool(metrics),
        "phases": _phases(metrics),
        "calls": _calls(metrics),
        "snippets": snippets(run),
        **_settings(source),
        "environment": _flat(run.read_environment()),
    }
    return {**context, "sections": _sections(context)}


def _wanted(source: Source) -> list[str]:
    """The metrics that a sample's score tells: the rewards, and what judges samples."""
    measured = {name for row in source.evaluations for name in row}
    told = [
        *leading(reward_terms(source.run)),
        *judges_trained_on(source.run),
        *names(with_role("judge")),
    ]
    return [name for name in dict.fromkeys(told) if name in measured]


def scored_pictures(source: Source) -> list[HeldOut]:
    """The pictures of held-out prompts, of the base and of the last evaluation, with their
    scores."""
    samples, wanted = source.run.samples, _wanted(source)
    last = max((row["step"] for row in source.evaluations), default=0)
    scores = (read_scores(samples, step, wanted) for step in (0, last))
    return held_out_pictures(samples, read_prompts(samples)["held_out"], *scores)


def _samples(source: Source) -> dict[str, Any]:
    """The pictures or completions of the run, with their scores."""
    samples, wanted = source.run.samples, _wanted(source)
    held_out, completions = scored_pictures(source), held_out_completions(samples)
    pictures = [picture for group in held_out for picture in (*group.base, *group.final)]
    scored = any(picture.score.text for picture in pictures)
    return {
        "held_out": held_out[:SHOWN_PROMPTS],
        "held_out_more": held_out[SHOWN_PROMPTS:],
        "scored": _metric_name(wanted[0]) if scored else "",
        "completions": completions[:SHOWN_TEXTS],
        "completions_more": completions[SHOWN_TEXTS:],
        "strip": strip_pictures(samples, read_prompts(samples)["strip"], wanted),
    }


def _metric_name(name: str) -> str:
    """A metric's name behind "its"."""
    return describe(name).in_sentence.removeprefix("the ")


def _settings(source: Source) -> dict[str, Any]:
    """The configuration, as what differs from the recipe, and whole."""
    run = source.run
    changed: list[tuple[str, str, str]] = []
    beside_what = "Recipe"
    try:
        found = changes(run)
    except AdrpoError as error:  # a page of a run of another version is better than none
        against = f"What differs from a recipe can't be told: {error}."
    else:
        changed, what = found.keys, f"the recipe {found.recipe}"
        if not found.recipe:
            beside_what = "Default"
            what = "the defaults of its domain: no recipe has its description"
        said = "Settings that differ from" if changed else "The settings are those of"
        repeats = " Training from config.yaml repeats the run." if source.trains else ""
        against = f"{said} {what}.{repeats}"
    return {
        "against": against,
        "changed": changed,
        "beside_what": beside_what,
        "config_yaml": run.read_config_yaml().strip(),
    }


def _sections(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(id, title) of the sections that the page has, in its order."""
    shown = {
        ("look-at", "What to look at"): context["look_at"],
        ("metrics", "Metrics"): True,
        ("pictures", "Pictures"): context["held_out"],
        ("curves", "Curves"): context["figures"],
        ("completions", "Completions"): context["completions"],
        ("strip", "Over time"): context["strip"].rows and context["trains"],
        ("time", "Time"): context["timed"],
        ("use", "Use it"): context["snippets"],
        ("setup", "Configuration"): True,
    }
    return [section for section, there in shown.items() if there]


def _facts(source: Source) -> list[tuple[str, str]]:
    """Short facts under the headline; those that the run does not record are left out."""
    config, metrics = source.config, source.metrics
    targets = dict.fromkeys(str(row["target"]) for row in source.evaluations if "target" in row)
    facts = [("Measured", target) for target in targets]
    facts += [("Steps", fixed(metrics[-1]["step"], 0))] if metrics else []
    if samples := _total(metrics, "samples"):
        facts.append(("Training samples", fixed(samples, 0)))
    if seconds := sum(_total(metrics, phase.name) for phase in PHASES.values()):
        facts.append(("Training time", duration(seconds)))
    places = PLACES if source.trains else PLACES[:1]
    for label, section, key in places:
        found = config.get(section)
        value = found.get(key) if isinstance(found, dict) else None
        if isinstance(value, dict):
            value = value.get("schedule")
        if value is not None:
            facts.append((label, str(value)))
    return facts


def _planned(config: Row) -> int:
    """Steps that a run is to make; as many as tell anything where it does not say."""
    planned = finite(config.get("training"), "steps")
    return STEPS if planned is None else int(planned)


def progress_lines(source: Source) -> list[str]:
    """Progress of a run that has not made all steps; nothing of one that has, or makes none."""
    planned = source.planned
    done = source.metrics[-1]["step"] if source.metrics else 0
    if planned is None or done >= planned or not source.trains:
        return []
    steps = f"{fixed(done, 0)} of {fixed(planned, 0)} steps"
    stops = (source.config.get("evaluation") or {}).get("early_stopping") is not None
    if stops and source.run.final.is_dir():
        return [f"Early stopping ended the run after {steps}."]
    left = source.seconds_left()
    pace = "" if left is None else f"; at its pace {duration(left)} are left"
    return [f"The run has done {steps}{pace}."]


def _phases(metrics: Sequence[Row]) -> list[dict[str, Any]]:
    """Seconds and share of each phase of training."""
    seconds = {name: _total(metrics, phase.name) for name, phase in PHASES.items()}
    total = sum(seconds.values())
    if not total:
        return []
    return [
        {
            "key": phase,
            "label": PHASES[phase].label,
            "share": f"{100 * value / total:.3f}",
            "percent": "< 1 %" if 0 < value < 0.01 * total else f"{100 * value / total:.0f} %",
            "time": duration(value),
        }
        for phase, value in seconds.items()
        if value > 0
    ]


def _calls(metrics: Sequence[Row]) -> list[tuple[str, str]]:
    """Totals over the run, of those that it records."""
    counts = [metric for metric in with_role("count", file="metrics") if metric.name != "samples"]
    calls = [
        (count.label, fixed(total, 0)) for count in counts if (total := _total(metrics, count.name))
    ]
    rates = [rate for row in metrics if (rate := finite(row, "samples_per_second")) is not None]
    if rates:
        calls.append(("Samples per second", compact(sum(rates) / len(rates))))
    return calls


def _total(rows: Sequence[Row], key: str) -> float:
    return sum(value for row in rows if (value := finite(row, key)) is not None)


def _flat(record: Row, prefix: str = "") -> list[tuple[str, str]]:
    """A nested record as dotted names and printable values."""
    pairs: list[tuple[str, str]] = []
    for key, value in record.items():
        if isinstance(value, dict):
            pairs += _flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            pairs.append((f"{prefix}{key}", "–" if value is None else text))
    return pairs

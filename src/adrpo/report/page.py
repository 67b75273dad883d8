"""Writes ``report.html``: one self-contained page for one run, from the run's files only."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adrpo.errors import AdrpoError
from adrpo.metrics import SPLITS, with_role
from adrpo.report.completions import held_out_completions
from adrpo.report.figures import evaluation_figures, training_figures
from adrpo.report.kept import (
    damage_lines,
    judges_trained_on,
    kept_weights,
    own_reward_lines,
    start_notices,
)
from adrpo.report.numbers import compact, duration, fixed
from adrpo.report.pictures import held_out_pictures, read_prompts, strip_pictures
from adrpo.report.render import render
from adrpo.report.summary import finite, headline, metric_table, unscored
from adrpo.runs.directory import RunDirectory
from adrpo.runs.durable import write_durably
from adrpo.runs.facts import read_facts
from adrpo.runs.symptoms import STEPS, symptoms

Row = Mapping[str, Any]

SHOWN_PROMPTS = 12
"""Held-out prompts shown at once; the others unfold."""

PHASES = {
    metric.name.removeprefix("seconds_"): metric for metric in with_role("phase", file="metrics")
}
"""Short name of a phase, as the style sheet has it -> its column."""


def write_report(run_path: Path) -> Path:
    """Write the page of the run at ``run_path`` and return its path.

    A run in progress gives a page that says what is missing. Raises AdrpoError where the folder
    is no run or has no metrics yet. Equal run files give an equal page.
    """
    run = RunDirectory.open(run_path)
    metrics = run.read_metrics()
    if not metrics:
        raise AdrpoError(
            f"expected at least one training step in metrics.jsonl; received none in {run.path}; "
            f"report the run once it has trained a step"
        )
    page = render("report/page.html.j2", _context(run, metrics))
    write_durably(run.report, page.encode())
    return run.report


def _context(run: RunDirectory, metrics: list[dict[str, Any]]) -> dict[str, Any]:
    evaluations = run.read_evaluations()
    config_yaml = run.read_config_yaml()
    config = run.read_settings()
    kept = kept_weights(run, config)
    step = kept.step or None if kept else None
    trained = judges_trained_on(run)
    tables = [
        table
        for split in SPLITS
        if (table := metric_table(evaluations, split, step, trained=trained))
    ]
    prompts = read_prompts(run.samples)
    beta_0 = finite(config.get("algorithm"), "beta_0")
    held_out = held_out_pictures(run.samples, prompts["held_out"])
    facts = read_facts(run)
    return {
        "name": run.path.resolve().name,
        "maker": "adrpo",
        "domain": facts.domain,
        "samples": facts.samples,
        "description": str(config.get("description") or ""),
        "headline": headline(tables[0] if tables else None),
        "facts": _facts(config, metrics),
        "notices": [
            *_progress(run, config, metrics),
            *damage_lines(run),
            *start_notices(config),
            *([kept.sentence] if kept else []),
            *own_reward_lines(run),
        ],
        "look_at": symptoms(metrics, config, _planned(config), evaluations),
        # Samples are shown of the last evaluation.
        "tuned": f"Fine-tuned, step {fixed(kept.last, 0)}" if kept else "Fine-tuned",
        "tables": [(table, unscored(table, facts.samples)) for table in tables],
        "held_out": held_out[:SHOWN_PROMPTS],
        "held_out_more": held_out[SHOWN_PROMPTS:],
        "completions": held_out_completions(run.samples),
        "figures": [
            *evaluation_figures(evaluations, trained),
            *training_figures(metrics, beta_0, facts.domain),
        ],
        "strip": strip_pictures(run.samples, prompts["strip"]),
        "phases": _phases(metrics),
        "calls": _calls(metrics),
        "config_yaml": config_yaml.strip(),
        "environment": _flat(run.read_environment()),
    }


def _facts(config: Row, metrics: Sequence[Row]) -> list[tuple[str, str]]:
    """Short facts under the headline; those that the run does not record are left out."""
    facts = [("Steps", fixed(metrics[-1]["step"], 0))]
    if samples := _total(metrics, "samples"):
        facts.append(("Training samples", fixed(samples, 0)))
    if seconds := sum(_total(metrics, phase.name) for phase in PHASES.values()):
        facts.append(("Training time", duration(seconds)))
    places = (
        ("Model", "model", "pretrained"),
        ("Method", "algorithm", "method"),
        ("β₀", "algorithm", "beta_0"),
        ("Coefficient", "algorithm", "coefficient"),
        ("Anchor", "algorithm", "anchor"),
        ("Learning rate", "training", "learning_rate"),
        ("Seed", "training", "seed"),
    )
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


def _progress(run: RunDirectory, config: Row, metrics: Sequence[Row]) -> list[str]:
    """Progress of a run that has not made all steps; nothing of one that has."""
    planned = finite(config.get("training"), "steps")
    done = metrics[-1]["step"]
    if planned is None or done >= planned:
        return []
    steps = f"{fixed(done, 0)} of {fixed(planned, 0)} steps"
    stops = (config.get("evaluation") or {}).get("early_stopping") is not None
    if stops and run.final.is_dir():
        return [f"Early stopping ended the run after {steps}."]
    return [f"The run has done {steps}."]


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

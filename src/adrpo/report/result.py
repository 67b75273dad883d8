"""What a run's evaluations found, as lines of text for a terminal."""

from pathlib import Path

import yaml

from adrpo.report.summary import SAMPLES, Estimate, metric_table
from adrpo.runs import RunDirectory


def result_lines(run: Path) -> list[str]:
    """Base, latest evaluation and verdict of each metric on the unseen prompts.

    A verdict (rose, fell, unchanged) is that of the paired change's 95 % interval: "unchanged"
    means that the interval holds 0. Raises AdrpoError where ``run`` is no run directory.
    """
    directory = RunDirectory.open(run)
    table = metric_table(directory.read_evaluations(), "unseen")
    if table is None:
        return ["No evaluation on unseen prompts has been written yet."]
    rows = table.metrics
    width = max((len(row.label) for row in rows), default=0)
    config = yaml.safe_load(directory.read_config_yaml()) or {}
    samples = SAMPLES.get(config.get("domain", ""), "samples")
    over = f"{table.prompts} unseen prompts, {table.samples} {samples}, 95 % intervals"
    if table.final_step is None:
        lines = [f"Base model ({over}):"]
        return lines + [f"  {row.label:<{width}}  {_text(row.base)}" for row in rows]
    lines = [f"Base model -> after step {table.final_step} ({over}):"]
    for row in rows:
        verdict = f"  {row.verb}" if row.verb else ""
        if row.change is not None and row.verb in ("rose", "fell"):
            verdict += f" by {row.change.value.lstrip('+−')} {row.change.interval}"
        lines.append(f"  {row.label:<{width}}  {_text(row.base)} -> {_text(row.final)}{verdict}")
    return lines


def _text(estimate: Estimate | None) -> str:
    if estimate is None:
        return "not measured"
    return f"{estimate.value} {estimate.interval}".rstrip()

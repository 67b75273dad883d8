"""The result of a run's evaluations, as lines of text for a terminal."""

from collections.abc import Collection, Sequence
from pathlib import Path

from adrpo.metrics import UNSEEN, marked
from adrpo.report.kept import (
    damage_lines,
    judges_trained_on,
    kept_weights,
    own_reward_lines,
    start_notices,
)
from adrpo.report.numbers import Printed
from adrpo.report.summary import Row, leading, metric_table, size, unscored
from adrpo.runs import RunDirectory
from adrpo.runs.facts import read_facts
from adrpo.runs.reward_terms import reward_terms


def result_lines(run: Path) -> list[str]:
    """Base, latest evaluation (that of ``final/`` where early stopping kept an earlier one) and
    verdict of each metric on the unseen prompts.

    A verdict (rose, fell, unchanged) is that of the paired change's 95 % interval as it is printed:
    "unchanged" means that the interval holds 0. Raises AdrpoError where ``run`` is no run
    directory.
    """
    directory = RunDirectory.open(run)
    config = directory.read_settings()
    kept = kept_weights(directory, config)
    step = kept.step or None if kept else None
    trained = judges_trained_on(directory)
    first = leading(reward_terms(directory))
    evaluations = directory.read_evaluations()
    table = metric_table(evaluations, UNSEEN, step, trained=trained, first=first)
    damaged = damage_lines(directory)
    if table is None:
        return ["No evaluation on unseen prompts has been written yet.", *damaged]
    rows = table.metrics
    width = max((len(row.label) for row in rows), default=0)
    samples = read_facts(directory).samples
    over = f"{table.prompts} unseen prompts, {table.samples} {samples}, 95 % intervals"
    if table.final_step is None:
        lines = [f"Base model ({over}):"]
        lines += [f"  {row.label:<{width}}  {_text(row.base)}" for row in rows]
        return [*lines, *unscored(table, samples), *damaged]
    lines = [f"Base model -> after step {table.final_step} ({over}):"]
    for row in rows:
        said = f"  {row.verb}" if row.verb else ""
        if row.change is not None and row.verb in ("rose", "fell"):
            said += f" by {size(row.change)} {row.change.interval}"
        lines.append(f"  {row.label:<{width}}  {_text(row.base)} -> {_text(row.final)}{said}")
    notices = [*unscored(table, samples), *([kept.sentence] if kept else [])]
    notices += [*start_notices(config), *own_reward_lines(directory), *damaged]
    return [*lines, *notices]


def metric_lines(
    evaluation: Row,
    samples: str = "samples",
    *,
    trained: Collection[str] = (),
    first: Sequence[str] = (),
) -> list[str]:
    """One line for each metric of an evaluation, those of ``first`` in front, with its change and
    verdict where it has them, and one on samples without a score, which ``samples`` is the word
    for. The judges that are ``trained`` on are called so."""
    table = metric_table([evaluation], evaluation["split"], first=first)
    assert table is not None, "a row is of its own split"
    rows = [*table.metrics, *(row for part in table.categories for row in part.rows)]
    titles = [marked(row.key, row.key in trained) for row in rows]
    width = max(map(len, titles), default=0)
    lines = []
    for title, row in zip(titles, rows, strict=True):
        change = ""
        if row.change is not None:
            change = f"  change against the base {_text(row.change)} {row.verb}".rstrip()
        lines.append(f"{title:<{width}}  {_text(row.final or row.base)}{change}")
    return [*lines, *unscored(table, samples)]


def _text(number: Printed | None) -> str:
    if number is None:
        return "not measured"
    return f"{number.value} {number.interval}".rstrip()

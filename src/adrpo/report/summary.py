"""The headline and the table of metrics, out of a run's evaluations."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adrpo.metrics import (
    CHANGE,
    EXCLUDED,
    INTERVAL,
    TOTAL,
    Metric,
    category,
    describe,
    marked,
    names,
    ordered,
    with_role,
)
from adrpo.report.numbers import (
    Printed,
    Quantity,
    Verdict,
    as_printed,
    capital,
    decimals,
    fixed,
    printed,
    verdict,
)

Row = Mapping[str, Any]
Sentence = list[tuple[str, bool]]
"""Parts of a sentence, each with whether it is an interval."""


@dataclass(frozen=True)
class MetricRow:
    """One metric before and after: as printed, and what its change says."""

    key: str
    label: str
    in_sentence: str
    note: str
    base: Printed | None
    final: Printed | None
    change: Printed | None
    verb: Verdict
    """Empty where there is no change to speak of."""
    tagged: bool
    """True of a reward that training is paid by."""
    sides_tell: bool
    """True where base and final, as printed, are apart in the verb's direction. A paired change can
    be clear that is too small for their digits, and it is over the prompts with values on both
    sides alone."""


@dataclass(frozen=True)
class CategoryTable:
    """A metric by category."""

    label: str
    rows: list[MetricRow]


@dataclass(frozen=True)
class MetricTable:
    """The metrics of one split."""

    split: str
    prompts: str
    samples: str
    excluded: str
    """Number of samples of the shown evaluations that a reward gave no score; empty without any."""
    final_step: int | None
    metrics: list[MetricRow]
    categories: list[CategoryTable]


def finite(row: Row | None, key: str) -> float | None:
    """``row[key]`` as a number; None where it is missing, null, NaN or infinite."""
    value = row.get(key) if row is not None else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def metric_table(
    evaluations: Sequence[Row],
    split: str,
    step: int | None = None,
    *,
    trained: Collection[str] = (),
    first: Sequence[str] = (),
) -> MetricTable | None:
    """Base, latest evaluation (or that of ``step``) and paired change of one split; None where it
    has no rows. The metrics of ``first``, what training is paid by, stand in front, and the judges
    that are ``trained`` on are called so."""
    rows = [row for row in evaluations if row.get("split") == split]
    base = next((row for row in rows if row.get("step") == 0), None)
    tuned = [row for row in rows if row.get("step") != 0 and step in (None, row.get("step"))]
    final = max(tuned, key=lambda row: row["step"]) if tuned else None
    if base is None and final is None:
        return None
    latest = final or base
    found = _measured([row for row in (base, final) if row is not None])
    unscored = max(finite(row, EXCLUDED) or 0 for row in (base, final))
    by_metric: dict[Metric, list[MetricRow]] = {}
    for key in sorted(found):
        of_category = category(key)
        if of_category is not None:
            row = _metric_row(key, base, final, trained)
            by_metric.setdefault(of_category[0], []).append(row)
    return MetricTable(
        split=split,
        prompts=_count(latest, "prompts"),
        samples=_count(latest, "samples"),
        excluded=fixed(unscored, 0) if unscored else "",
        final_step=final["step"] if final else None,
        metrics=[
            _metric_row(key, base, final, trained, first)
            for key in ordered(found, first)
            if not category(key)
        ],
        categories=[
            CategoryTable(marked(metric.label, metric.name in trained), rows)
            for metric, rows in by_metric.items()
        ],
    )


def unscored(table: MetricTable, samples: str) -> list[str]:
    """A sentence on samples without a score, which ``samples`` is the word for; none without any.

    Of two evaluations that are compared it tells of the one with more of them.
    """
    if not table.excluded:
        return []
    return [
        f"A reward gave no score to {table.excluded} of {table.samples} {samples}; their prompts "
        f"are left out of it."
    ]


def leading(terms: Collection[str]) -> list[str]:
    """The metrics that stand in front: the reward that is trained on with its ``terms``; a term
    that is alone is more than the name of their sum."""
    return [*terms, TOTAL] if len(terms) == 1 else [TOTAL, *terms]


def headline(table: MetricTable | None) -> Sentence:
    """The result of the first metric in one sentence."""
    if table is None or not table.metrics:
        return [("No evaluation has been written yet.", False)]
    place = f"{table.prompts} {table.split}".strip()
    return [(f"On {place} prompts, ", False), *_clause(table.metrics[0]), (".", False)]


def beside(table: MetricTable | None, notices: Sequence[str] = ()) -> Sentence:
    """The sentence behind the headline: what a judge that training does not see says, and what
    became of diversity; empty without either, and where one of the configuration's ``notices`` is
    of that judge: it says nothing of the model."""
    if table is None or any(notice.startswith("evaluation.clip: ") for notice in notices):
        return []
    rest = [row for row in table.metrics[1:] if not row.tagged]
    found = [
        next((row for row in rest if row.key in names(with_role(role)) and row.verb), None)
        for role in ("judge", "diversity")
    ]
    rows = [row for row in found if row is not None]
    if not rows:
        return []
    (start, strong), *more = _clause(rows[0], brief=True)
    parts = [(capital(start), strong), *more]
    if len(rows) == 2:
        joint = " and " if rows[0].verb == rows[1].verb else ", while "
        parts += [(joint, False), *_clause(rows[1], brief=True)]
    return [*parts, (".", False)]


def _clause(row: MetricRow, *, brief: bool = False) -> Sentence:
    name, base, final = row.in_sentence, row.base, row.final
    if base is None or final is None:
        only = base or final
        if only is None:
            return [(f"{name} could not be measured", False)]
        who = "of the base model" if base else "of the fine-tuned model"
        return [(f"{name} {who} is {only.value} ", False), (only.interval, True)]
    values = [(f"{base.value} ", False), (base.interval, True)]
    after = [(f"{final.value} ", False), (final.interval, True)]
    if row.verb == "unchanged":
        within = "" if brief else " within its 95 % interval"
        return [(f"{name} is unchanged{within}: ", False), *values,
                (" before, ", False), *after, (" after", False)]  # fmt: skip
    if row.verb and row.change is not None and not row.sides_tell:
        return [(f"{name} {row.verb} by {size(row.change)} ", False), (row.change.interval, True),
                (" from ", False), *values]  # fmt: skip
    return [(f"{name} {row.verb or 'went'} from ", False), *values, (" to ", False), *after]


def size(change: Printed) -> str:
    """A printed change without its sign, for a sentence that has a verb."""
    return change.value.lstrip("+−")


def _count(row: Row | None, key: str) -> str:
    value = finite(row, key)
    return "" if value is None else fixed(value, 0)


def _measured(rows: list[Row]) -> set[str]:
    """Names with an interval beside them."""
    return {
        key
        for row in rows
        for key in row
        if all(f"{key}{end}" in row for end in INTERVAL) and not key.endswith(CHANGE)
    }


def _metric_row(
    key: str,
    base: Row | None,
    final: Row | None,
    trained: Collection[str] = (),
    paid: Collection[str] = (),
) -> MetricRow:
    metric = describe(key)
    sides = (_quantity(base, key), _quantity(final, key))
    places = decimals(side for side in sides if side is not None)
    change = _quantity(final, f"{key}{CHANGE}")
    # A paired change can be far narrower than its sides; one more digit than theirs will do.
    change_places = min(places + 1, decimals([] if change is None else [change]))
    first, last = (None if side is None else printed(side, places, short=True) for side in sides)
    said = "" if change is None else verdict(change, change_places)
    before, after = (math.nan if side is None else as_printed(side.value, places) for side in sides)
    return MetricRow(
        key=key,
        label=marked(capital(metric.label) if key in paid else metric.label, key in trained),
        in_sentence=marked(_in_sentence(metric, key in paid), key in trained),
        note=metric.note,
        base=first,
        final=last,
        change=None if change is None else printed(change, change_places, sign=True, short=True),
        verb=said,
        tagged=key in paid or key in trained,
        sides_tell=after > before if said == "rose" else after < before,
    )


def _in_sentence(metric: Metric, paid: bool) -> str:
    """A metric's name inside a sentence; a reward of the user's own is called one there."""
    own = paid and not metric.sentence
    return f"the reward {metric.label}" if own else metric.in_sentence


def _quantity(row: Row | None, key: str) -> Quantity | None:
    value, low, high = (finite(row, f"{key}{end}") for end in ("", *INTERVAL))
    return None if value is None else Quantity(value, low, high)

"""The primary metric of a comparison within each category of the prompts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adrpo.comparison.collect import Array, SplitResults
from adrpo.evaluation.intervals import (
    Estimate,
    complete_prompts,
    mean_over_seeds,
    paired_difference,
)

Row = dict[str, Estimate]
"""Category -> estimate; without those in which no prompt has a value."""


@dataclass(frozen=True)
class ByCategory:
    """Means and differences within the categories; they describe, and nothing here is tested."""

    prompts: dict[str, int]
    """Category -> its number of prompts, in the order of the alphabet."""
    base: Row
    final: dict[str, Row]
    change: dict[str, Row]
    """Paired, to the base."""
    difference: dict[str, Row]
    """Paired, to the reference method; without the reference."""

    def to_json(self) -> dict[str, Any]:
        def row(estimates: Row) -> dict[str, Any]:
            return {name: value.to_json() for name, value in estimates.items()}

        return {
            "prompts": self.prompts,
            "base": row(self.base),
            "methods": {name: row(estimates) for name, estimates in self.final.items()},
            "change": {name: row(estimates) for name, estimates in self.change.items()},
            "difference": {name: row(estimates) for name, estimates in self.difference.items()},
        }


def by_category(
    parts: Mapping[str, SplitResults], reference: str, metric: str
) -> ByCategory | None:
    """``metric`` of each method's part within each category; None where all prompts have one."""
    theirs = parts[reference]
    counts = {name: theirs.categories.count(name) for name in sorted(set(theirs.categories))}
    if len(counts) < 2:
        return None

    def within(statistic: Any, *tables: Array) -> Row:
        found: Row = {}
        for name in counts:
            places = [place for place, own in enumerate(theirs.categories) if own == name]
            kept = complete_prompts([table[:, places] for table in tables], [name] * len(places))
            if kept is not None:
                arrays, strata = kept
                found[name] = statistic(*arrays, strata)
        return found

    return ByCategory(
        prompts=counts,
        # The base is not trained: one seed holds all there is to know of it.
        base=within(mean_over_seeds, theirs.base[metric][:1]),
        final={name: within(mean_over_seeds, part.final[metric]) for name, part in parts.items()},
        change={
            name: within(paired_difference, part.final[metric], part.base[metric])
            for name, part in parts.items()
        },
        difference={
            name: within(paired_difference, part.final[metric], theirs.final[metric])
            for name, part in parts.items()
            if name != reference
        },
    )

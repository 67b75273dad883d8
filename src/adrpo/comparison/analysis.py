"""The numbers of a comparison: means, paired differences, kept diversity, trade-offs.

The primary metric is declared before any run (:mod:`adrpo.comparison.primary`), or by a rule: the
first judge among the metrics that the runs have (gold accuracy, the score of the CLIP that training
never sees), one that a method is trained on after the others; otherwise the first reward that is
evaluated and not trained on. Only where there is none of them is it the reward itself. The declared
pair of methods in the primary metric on the unseen prompts is tested alone. All other differences
to the reference method on a split are one family, with Holm's correction.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adrpo.comparison.by_category import ByCategory, by_category
from adrpo.comparison.collect import Array, MethodResults, Results, Values
from adrpo.comparison.equal_price import AtEqualPrice
from adrpo.comparison.plan import Flat, reward_names
from adrpo.comparison.primary import JUDGES
from adrpo.comparison.reference_lines import ReferenceLine
from adrpo.comparison.trade_offs import TradeOff, trade_offs
from adrpo.errors import AdrpoError
from adrpo.evaluation.intervals import (
    Estimate,
    complete_prompts,
    holm,
    mean_over_seeds,
    paired_difference,
    paired_ratio,
    pooled_categories,
)
from adrpo.metrics import (
    EVALUATIONS,
    TOTAL,
    UNSEEN,
    describe,
    marked,
    names,
    trained_judges,
    with_role,
)

DESCRIPTIVE = frozenset(metric.name for metric in EVALUATIONS if metric.better == "neither")
"""Metrics of which neither more nor less is better: in summary.json, but neither tested nor in the
tables."""

DIVERSITIES = frozenset(names(with_role("diversity")))
"""Metrics of which the kept share of the base's is told."""

Estimates = dict[str, dict[str, Estimate]]
"""Method -> metric -> estimate."""


@dataclass(frozen=True)
class SplitAnalysis:
    """Everything about one split of the prompts."""

    split: str
    prompts: int
    images: int
    metrics: list[str]
    base: dict[str, Estimate]
    others: Estimates
    """Means of the models beside the methods: one seed, so prompts and images alone."""
    final: Estimates
    change: Estimates
    """Paired, final - base."""
    kept: Estimates
    """Paired, final / base, of the diversities."""
    difference: Estimates
    """Paired, to the reference method; without the reference."""
    p_holm: dict[str, dict[str, float]]
    """Adjusted p-values of the differences, without those of DESCRIPTIVE metrics; that of the
    primary comparison is its own."""
    family: int
    """Number of differences that Holm's correction is for."""
    pooled: list[str]
    """Categories that are too small for a stratum of their own."""
    trade_offs: list[TradeOff]
    by_category: ByCategory | None
    """The primary metric by category; None where all prompts are of one, or have no such metric."""


@dataclass(frozen=True)
class Analysis:
    """Everything about a comparison."""

    reference: str
    seeds: list[int]
    primary: str
    primary_method: str | None
    """Method of the primary comparison; None where none was declared before the runs."""
    trained_on: list[str]
    """Names of the rewards' terms, which are metrics of the evaluation too, and the judges that
    they ask themselves."""
    lowered: list[str]
    """Terms of the reference's reward with a negative weight: less of them is better."""
    diverged: dict[str, int]
    """Run -> step of those that diverged, and count as the base from there on."""
    not_compared: list[str]
    """Rewards that the methods measure with different options."""
    lines: list[ReferenceLine]
    """The untrained base over guidance and best of n; their rows are ``others`` of the unseen
    split."""
    splits: list[SplitAnalysis]

    def title(self, metric: str) -> str:
        """The metric's label, of a judge that a method is trained on with that beside it."""
        return marked(describe(metric).label, metric in JUDGES and metric in self.trained_on)


def analyse(results: Results) -> Analysis:
    """All statistics of the finished runs.

    Raises AdrpoError where no metric is known to every method.
    """
    # In the order of the recipes: the first term stands for the reward in figures.
    trained_on = list(
        dict.fromkeys(
            name
            for method in results.methods.values()
            for name in reward_names(method.settings, "reward")
        )
    )
    rewards = (
        str(term["name"])
        for method in results.methods.values()
        for term in method.settings.get("reward", [])
    )
    trained_on += [judge for judge in trained_judges(rewards) if judge not in trained_on]
    first = results.splits[0]
    shared = _shared_metrics(results, first)
    reference = results.methods[results.plan.reference].settings
    declared = results.plan.primary
    judges = sorted(JUDGES, key=lambda judge: judge in trained_on)
    wanted = [*judges, *reward_names(reference, "evaluation.rewards"), TOTAL]
    if declared.metric is not None:
        wanted = [declared.metric]
    primary = next((metric for metric in wanted if metric in shared), None)
    if primary is None:
        raise AdrpoError(
            f"compare: expected {' or '.join(wanted)} in the evaluations of all runs; received "
            f"{', '.join(shared) or 'no common metric'}; evaluate all methods alike"
        )
    return Analysis(
        results.plan.reference,
        results.seeds,
        primary,
        declared.method if declared.declared and declared.method in results.methods else None,
        trained_on,
        _lowered(reference),
        {
            folder.name: step
            for method in results.methods.values()
            for folder, step in method.diverged.items()
        },
        results.not_compared,
        results.lines,
        [_analyse_split(results, split, primary, trained_on) for split in results.splits],
    )


def _lowered(settings: Flat) -> list[str]:
    terms = zip(reward_names(settings, "reward"), settings.get("reward", []), strict=True)
    return [name for name, term in terms if term.get("weight", 1.0) < 0]


def _shared_metrics(results: Results, split: str) -> list[str]:
    """Metrics that every method has, in the order of the first one's."""
    parts = [method.splits[split] for method in results.methods.values()]
    return [
        metric
        for metric in parts[0].final
        if all(metric in part.final and metric in part.base for part in parts)
    ]


def _analyse_split(
    results: Results, split: str, primary: str, trained_on: list[str]
) -> SplitAnalysis:
    parts = {name: method.splits[split] for name, method in results.methods.items()}
    reference = parts[results.plan.reference]
    categories = reference.categories
    metrics = _shared_metrics(results, split)

    def each(statistic: Callable[..., Estimate], tables: Callable[..., Sequence[Array]],
             chosen: Sequence[str], methods: Sequence[str]) -> Estimates:  # fmt: skip
        found: Estimates = {}
        for name in methods:
            found[name] = {}
            for metric in chosen:
                kept = complete_prompts(tables(parts[name], metric), categories)
                if kept is not None:
                    arrays, strata = kept
                    found[name][metric] = statistic(*arrays, strata)
        return found

    methods = list(parts)
    others = [name for name in methods if name != results.plan.reference]
    diversities = [metric for metric in metrics if metric in DIVERSITIES]
    difference = each(
        paired_difference,
        lambda part, metric: (part.final[metric], reference.final[metric]),
        metrics,
        others,
    )
    declared = results.plan.primary
    alone = (declared.method, primary) if declared.declared and split == UNSEEN else None
    p_holm, family = _adjusted(difference, alone)
    return SplitAnalysis(
        split=split,
        prompts=len(categories),
        images=max(table[0].size for table in reference.final.values()),
        metrics=metrics,
        # The base is not trained: one seed holds all there is to know of it.
        base=each(
            mean_over_seeds, lambda part, metric: (part.base[metric][:1],), metrics, methods[:1]
        )[methods[0]],
        others=_others(results.others if split == UNSEEN else {}, metrics, categories),
        final=each(mean_over_seeds, lambda part, m: (part.final[m],), metrics, methods),
        change=each(
            paired_difference, lambda part, m: (part.final[m], part.base[m]), metrics, methods
        ),
        kept=each(
            paired_ratio, lambda part, m: (part.base[m], part.final[m]), diversities, methods
        ),
        difference=difference,
        p_holm=p_holm,
        family=family,
        pooled=pooled_categories(categories),
        trade_offs=trade_offs(results, split, primary, trained_on),
        by_category=by_category(parts, results.plan.reference, primary)
        if primary in metrics
        else None,
    )


def _others(
    others: Mapping[str, Values], metrics: Sequence[str], categories: Sequence[str]
) -> Estimates:
    """Means of the ``metrics`` that each of the models has."""
    found: Estimates = {}
    for name, values in others.items():
        found[name] = {}
        for metric in (metric for metric in metrics if metric in values):
            kept = complete_prompts([values[metric]], categories)
            if kept is not None:
                (table,), strata = kept
                found[name][metric] = mean_over_seeds(table, strata)
    return found


def _adjusted(
    difference: Estimates, alone: tuple[str | None, str] | None
) -> tuple[dict[str, dict[str, float]], int]:
    """Holm-adjusted p-values of all but the difference that is tested ``alone``, a method and a
    metric, and the number that they are adjusted for."""
    found: dict[str, dict[str, float]] = {name: {} for name in difference}
    family: list[tuple[str, str, float]] = []
    for name, row in difference.items():
        for metric, estimate in row.items():
            if metric in DESCRIPTIVE or math.isnan(estimate.p_value):
                continue
            if (name, metric) == alone:
                found[name][metric] = estimate.p_value
            else:
                family.append((name, metric, estimate.p_value))
    for (name, metric, _), p in zip(family, holm([p for *_, p in family]), strict=True):
        found[name][metric] = p
    return found, len(family)


def to_json(analysis: Analysis) -> dict[str, Any]:
    """The analysis as JSON values; a number that does not exist is null."""
    return {
        "reference": analysis.reference,
        "seeds": analysis.seeds,
        "primary_metric": analysis.primary,
        "primary_method": analysis.primary_method,
        "trained_on": analysis.trained_on,
        "not_compared": analysis.not_compared,
        "diverged": analysis.diverged,
        "lines": {line.name: line.points for line in analysis.lines},
        "splits": {split.split: _split_to_json(split) for split in analysis.splits},
    }


def _split_to_json(split: SplitAnalysis) -> dict[str, Any]:
    def table(estimates: Estimates) -> dict[str, Any]:
        return {
            name: {metric: value.to_json() for metric, value in row.items()}
            for name, row in estimates.items()
        }

    difference = {
        name: {
            metric: value.to_json(tested=True) | {"p_holm": split.p_holm[name].get(metric)}
            for metric, value in row.items()
        }
        for name, row in split.difference.items()
    }
    return {
        "prompts": split.prompts,
        "images": split.images,
        "pooled_categories": split.pooled,
        "family": split.family,
        "base": table({"base": split.base})["base"],
        "others": table(split.others),
        "methods": table(split.final),
        "change": table(split.change),
        "kept": table(split.kept),
        "difference": difference,
        "trade_offs": [_trade_off_to_json(trade_off) for trade_off in split.trade_offs],
        "by_category": split.by_category and split.by_category.to_json(),
    }


def _trade_off_to_json(trade_off: TradeOff) -> dict[str, Any]:
    def row(estimates: dict[str, Estimate], *, tested: bool = False) -> dict[str, Any]:
        return {name: value.to_json(tested=tested) for name, value in estimates.items()}

    return {
        "reward": trade_off.reward,
        "price": trade_off.price,
        "reference_point": list(trade_off.reference_point),
        "hypervolume": row(trade_off.hypervolume),
        "hypervolume_difference": row(trade_off.difference, tested=True),
        "reward_at": [
            {
                "price": matched.price,
                "label": matched.label,
                "methods": {name: _at_to_json(at) for name, at in matched.methods.items()}
                | {name: {"reason": why} for name, why in matched.reasons.items()},
            }
            for matched in trade_off.matched
        ],
    }


def _at_to_json(at: AtEqualPrice) -> dict[str, Any]:
    return {
        "level": at.level,
        "method": at.ours.to_json(),
        "reference": at.theirs.to_json(),
        "difference": at.difference.to_json(tested=True),
        "seeds_short": {"method": at.short[0], "reference": at.short[1]},
    }


def minutes(method: MethodResults) -> float:
    """Median wall time of a method's runs."""
    return float(np.median(method.minutes))

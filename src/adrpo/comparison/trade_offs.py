"""The price of a reward: hypervolumes, and rewards at an equal price, seed by seed."""

import math
from dataclasses import dataclass

import numpy as np

from adrpo.comparison.collect import Array, Results, SplitResults
from adrpo.comparison.equal_price import (
    AtEqualPrice,
    Course,
    at_equal_price,
    common_prompts,
    spent_by_all,
)
from adrpo.evaluation.intervals import Estimate, over_seeds
from adrpo.evaluation.pareto import hypervolume
from adrpo.metrics import EVALUATIONS, SAMPLE_KL

TRADED = {metric.name: metric for metric in EVALUATIONS if metric.traded}
DIVERSITIES = {name: metric for name, metric in TRADED.items() if metric.role == "diversity"}
"""Diversities that a reward is paid with, of images and of language models."""

PRICES = {name: metric for name, metric in TRADED.items() if metric.role == "price"}
"""Divergences that are spent on it: 0 for the base, so that the axis begins at the metric's own
point."""

KEPT = {0.95: "95 % of the base's {}", 0.9: "90 % of the base's {}"}
"""Shares of the base's diversity at which rewards are compared, with the words for each."""

SPENT = {1.0: "the lowest final {} of any seed of the two", 0.5: "half of it"}
"""Shares of that divergence at which rewards are compared, with the words for each."""


@dataclass(frozen=True)
class Matched:
    """Rewards of each method and of the reference at one level of ``price``."""

    price: str
    label: str
    """The level in words, the same for all methods."""
    methods: dict[str, AtEqualPrice]
    reasons: dict[str, str]
    """Reason of each method that has none."""


@dataclass(frozen=True)
class TradeOff:
    """A reward against what it costs, over the evaluations of each run."""

    reward: str
    price: str
    reference_point: tuple[float, float]
    """Reference point of the hypervolume, in (reward, price); a divergence is negated."""
    hypervolume: dict[str, Estimate]
    """Hypervolume of evaluations whose diversity counts up to the base's."""
    difference: dict[str, Estimate]
    """Difference of the hypervolume to the reference method's, paired by seed."""
    matched: list[Matched]


def trade_offs(results: Results, split: str, primary: str, trained_on: list[str]) -> list[TradeOff]:
    """The primary metric against diversities and the KL of whole samples, what was trained on
    against divergences."""
    curves = results.methods[results.plan.reference].splits[split].curves
    trained = next((name for name in trained_on if name in curves), primary)
    pairs = [(primary, price) for price in DIVERSITIES]
    pairs += [(trained, price) for price in PRICES]
    # A proxy is bought with KL; what matters is how much of gold comes with it.
    pairs += [(primary, SAMPLE_KL)]
    return [
        _trade_off(results, split, reward, price)
        for reward, price in dict.fromkeys(pairs)
        if all(
            _has(method.splits[split], metric)
            for method in results.methods.values()
            for metric in (reward, price)
        )
    ]


def _has(part: SplitResults, metric: str) -> bool:
    """True where the base has values of the metric, of one prompt at least, to begin from."""
    if metric not in part.curves or metric not in part.by_prompt:
        return False
    return bool(np.isfinite(part.by_prompt[metric][:, 0]).any(axis=1).all())


def _trade_off(results: Results, split: str, reward: str, price: str) -> TradeOff:
    sign = -1.0 if TRADED[price].better == "lower" else 1.0
    parts = {name: method.splits[split] for name, method in results.methods.items()}
    reference = parts[results.plan.reference]
    origin = TRADED[price].reference_point
    corner = (
        _below_base(reference, reward),
        _below_base(reference, price) if origin is None else sign * origin,
    )
    # More diversity than the base's is no merit: what is drawn or said worse varies more.
    ceiling = _of_the_base(reference, price) if price in DIVERSITIES else math.inf
    areas = {
        name: np.array(
            [
                hypervolume(np.minimum(path * (1, sign), (math.inf, ceiling)), corner)
                for path in trajectories(part, reward, price)
            ]
        )
        for name, part in parts.items()
    }
    own = areas[results.plan.reference]
    return TradeOff(
        reward,
        price,
        corner,
        {name: over_seeds(area) for name, area in areas.items()},
        {
            name: over_seeds(area - own)
            for name, area in areas.items()
            if name != results.plan.reference
        },
        _matched(parts, results.plan.reference, reward, price),
    )


def trajectories(part: SplitResults, reward: str, price: str) -> list[Array]:
    """(reward, price) [evaluations, 2] of each seed, evaluations without a value left out."""
    pairs = np.stack([part.curves[reward], part.curves[price]], axis=-1)
    return [path[np.isfinite(path).all(axis=1)] for path in pairs]


def _below_base(part: SplitResults, metric: str) -> float:
    """The base's mean minus one standard deviation over prompts."""
    table = part.base[metric][0]
    by_prompt = table.reshape(len(table), -1).mean(axis=1)
    by_prompt = by_prompt[np.isfinite(by_prompt)]
    return float(by_prompt.mean() - by_prompt.std())


def _of_the_base(part: SplitResults, metric: str) -> float:
    return float(np.nanmean(part.curves[metric][:, 0]))


def _matched(
    parts: dict[str, SplitResults], reference: str, reward: str, price: str
) -> list[Matched]:
    courses = {
        name: Course(part.by_prompt[reward], part.by_prompt[price]) for name, part in parts.items()
    }
    base, spends = _of_the_base(parts[reference], price), price in PRICES
    found: list[Matched] = []
    for share, label in SPENT.items() if spends else KEPT.items():
        matched = Matched(price, label.format(TRADED[price].traded), {}, {})
        for name in (name for name in courses if name != reference):
            pair = common_prompts(courses[name], courses[reference], parts[name].categories)
            if pair is None:
                matched.reasons[name] = "no prompt has a value at every evaluation"
                continue
            ours, theirs, categories = pair
            if not spends:
                ours, theirs = (of_one_base(course, base) for course in (ours, theirs))
            level = spent_by_all((ours, theirs), share) if spends else share * base
            if level <= 0:
                matched.reasons[name] = "a seed of the two ends where the base is"
                continue
            matched.methods[name] = at_equal_price(ours, theirs, level, categories, root=spends)
        found.append(matched)
    return found


def of_one_base(course: Course, base: float) -> Course:
    """The course with the price in parts of each seed's own base, times ``base``: what is kept of
    the base is kept of its own, whose prompts may be other ones."""
    own = course.price[:, :1].mean(axis=2, keepdims=True)
    return Course(course.reward, course.price * (base / own))

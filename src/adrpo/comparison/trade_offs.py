"""The price of a reward: hypervolumes, and rewards at an equal price, seed by seed."""

import math
from dataclasses import dataclass

import numpy as np

from adrpo.comparison.collect import Array, Results, SplitResults
from adrpo.evaluation.across_seeds import SeedEstimate, over_seeds
from adrpo.evaluation.pareto import hypervolume, reward_at
from adrpo.metrics import EVALUATIONS, SAMPLE_KL

TRADED = {metric.name: metric for metric in EVALUATIONS if metric.traded}
DIVERSITIES = {name: metric for name, metric in TRADED.items() if metric.role == "diversity"}
"""Diversities that a reward is paid with, of images and of language models."""

PRICES = {name: metric for name, metric in TRADED.items() if metric.role == "price"}
"""Divergences that are spent on it: 0 for the base, so that the axis begins at the metric's own
point."""

KEPT_LEVELS = (0.95, 0.9)
"""Shares of the base's diversity at which rewards are compared."""

SEED = 0
"""Seed of the resamples."""


@dataclass(frozen=True)
class Matched:
    """Rewards of the methods where ``price`` reaches ``level``."""

    price: str
    level: float
    label: str
    estimates: dict[str, SeedEstimate]
    reasons: dict[str, str]
    """Reason of each method that has no estimate."""


@dataclass(frozen=True)
class TradeOff:
    """A reward against what it costs, over the evaluations of each run."""

    reward: str
    price: str
    reference_point: tuple[float, float]
    """Reference point of the hypervolume, in (reward, price); a divergence is negated."""
    hypervolume: dict[str, SeedEstimate]
    """Hypervolume of evaluations whose diversity counts up to the base's."""
    difference: dict[str, SeedEstimate]
    """Difference of the hypervolume to the reference method's, paired by seed."""
    matched: list[Matched]


def trade_offs(
    results: Results, split: str, primary: str, trained_on: list[str], resamples: int
) -> list[TradeOff]:
    """The primary metric against diversities and the KL of whole samples, what was trained on
    against divergences."""
    curves = results.methods[results.plan.reference].splits[split].curves
    trained = next((name for name in trained_on if name in curves), primary)
    pairs = [(primary, price) for price in DIVERSITIES]
    pairs += [(trained, price) for price in PRICES]
    # A proxy is bought with KL; what matters is how much of gold comes with it.
    pairs += [(primary, SAMPLE_KL)]
    return [
        _trade_off(results, split, reward, price, resamples)
        for reward, price in dict.fromkeys(pairs)
        if all(
            metric in method.splits[split].curves
            for method in results.methods.values()
            for metric in (reward, price)
        )
    ]


def _trade_off(results: Results, split: str, reward: str, price: str, resamples: int) -> TradeOff:
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
        {name: over_seeds(area, resamples=resamples, seed=SEED) for name, area in areas.items()},
        {
            name: over_seeds(area - own, tested=True, resamples=resamples, seed=SEED)
            for name, area in areas.items()
            if name != results.plan.reference
        },
        [
            _matched(parts, reward, price, level, label, resamples)
            for level, label in _levels(reference, price)
        ],
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


def _levels(reference: SplitResults, price: str) -> list[tuple[float, str]]:
    word = TRADED[price].traded
    if price in PRICES:
        spent = float(np.nanmean(reference.curves[price][:, -1]))
        return [(spent / 2, f"half of the reference's final {word}"),
                (spent, f"the reference's final {word}")]  # fmt: skip
    base = _of_the_base(reference, price)
    return [(level * base, f"{100 * level:.0f} % of the base's {word}") for level in KEPT_LEVELS]


def _matched(
    parts: dict[str, SplitResults], reward: str, price: str, level: float, label: str,
    resamples: int,
) -> Matched:  # fmt: skip
    estimates, reasons = {}, {}
    for name, part in parts.items():
        read = [
            reward_at(path[:, 1], path[:, 0], level) for path in trajectories(part, reward, price)
        ]
        missing = [found.reason for found in read if math.isnan(found.value)]
        if missing:
            reasons[name] = f"{len(missing)} of {len(read)} seeds: {missing[0]}"
        else:
            values = [found.value for found in read]
            estimates[name] = over_seeds(values, resamples=resamples, seed=SEED)
    return Matched(price, level, label, estimates, reasons)

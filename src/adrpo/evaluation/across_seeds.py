"""Statistics of a method trained with several seeds: bootstrap with three levels, in numpy.

The data of a method are values [seeds, prompts, K]: every training seed was evaluated on the same
prompts from the same K initial noises. Prompts and noises are therefore crossed with seeds, not
nested in them, and a resample draws

1. seeds, with replacement;
2. within each category, as many prompts as it has, with replacement: one draw for all seeds and
   all methods;
3. within each drawn prompt, K of its images with replacement: again one draw for all.

So a difference between methods is paired throughout, and equal methods differ by exactly 0.

Plain resampling of a few seeds is too narrow: with S seeds its variance is (S - 1)/S of the right
one, and its quantiles are a normal's where Student's t with S - 1 degrees of freedom is meant
(Hesterberg, "What Teachers Should Know About the Bootstrap", 2015). The deviation of a resampled
mean over seeds from the mean is hence multiplied by sqrt(S / X), X ~ chi-square with S - 1
degrees of freedom: its variance becomes unbiased and its law Student's. With one seed there is
nothing to resample at level 1, and the interval speaks for that seed alone.

Percentile intervals, 2.5 % and 97.5 %. Prompts and images are resampled as in
:mod:`adrpo.evaluation.statistics`; what depends on a seed and a prompt together enters at two
levels, so the intervals err on the wide side.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adrpo.errors import AdrpoError
from adrpo.evaluation.statistics import QUANTILES

Array = NDArray[np.float64]

RESAMPLES = 5000
"""The least p-value is 2 / (RESAMPLES + 1) = 0.0004, which a Holm correction may multiply."""


@dataclass(frozen=True)
class SeedEstimate:
    """A statistic over seeds, in the metric's unit."""

    mean: float
    low: float
    """Lower end of the 95 % interval."""
    high: float
    standard_error: float
    """Standard deviation of ``by_seed`` (n - 1) over sqrt(seeds); NaN for one seed."""
    by_seed: tuple[float, ...]
    """The statistic of each seed; ``mean`` is their mean."""
    p_value: float | None = None
    """Two-sided, of the hypothesis that the statistic is 0; differences only."""

    def to_json(self) -> dict[str, Any]:
        """The estimate as JSON values; a number that does not exist is null or left out."""
        found: dict[str, Any] = {
            "mean": self.mean,
            "low": self.low,
            "high": self.high,
            "standard_error": None if math.isnan(self.standard_error) else self.standard_error,
            "seeds": list(self.by_seed),
        }
        return found if self.p_value is None else found | {"p_value": self.p_value}


def mean_over_seeds(
    values: ArrayLike, categories: Sequence[str], *, resamples: int = RESAMPLES, seed: int
) -> SeedEstimate:
    """Mean over seeds, prompts and images.

    ``values`` is [seeds, prompts, K], or [seeds, prompts] for a metric of a prompt;
    ``categories`` names the category of each prompt. The same ``seed`` gives the same interval.

    Raises AdrpoError on NaN or infinite values, and where the shapes disagree.
    """
    table = _table(values, categories, "values")
    return _estimate(
        table.mean(axis=(1, 2)), _resampled_means(table, categories, resamples, seed), seed
    )


def paired_difference(
    values: ArrayLike,
    reference: ArrayLike,
    categories: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int,
) -> SeedEstimate:
    """mean(values) - mean(reference), paired by seed, prompt and noise, with its p-value.

    Both are of one shape, [seeds, prompts, K] or [seeds, prompts].

    Raises AdrpoError as :func:`mean_over_seeds` does.
    """
    ours, theirs = _pair(values, reference, categories)
    resampled = _resampled_means(ours - theirs, categories, resamples, seed)
    return _estimate((ours - theirs).mean(axis=(1, 2)), resampled, seed, tested=True)


def paired_ratio(
    before: ArrayLike,
    after: ArrayLike,
    categories: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int,
) -> SeedEstimate:
    """Mean over seeds of mean(after) / mean(before) of a seed: the share that is kept.

    For metrics that are 0 or more, such as diversity. Shapes and pairs as in
    :func:`paired_difference`.

    Raises AdrpoError as :func:`mean_over_seeds` does, and where ``before`` has a value below 0
    or a seed's resample of it has mean 0, for which the ratio does not exist.
    """
    first, second = _pair(before, after, categories)
    below = _resampled_means(first, categories, resamples, seed)
    if first.min() < 0 or below.min() == 0:
        raise AdrpoError(
            f"paired_ratio: expected values of 0 or more before, with means above 0; received a "
            f"lowest value of {first.min():g} and a lowest resampled mean of {below.min():g}; "
            f"use paired_difference"
        )
    above = _resampled_means(second, categories, resamples, seed)
    return _estimate(second.mean(axis=(1, 2)) / first.mean(axis=(1, 2)), above / below, seed)


def complete_prompts(
    tables: Sequence[Array], categories: Sequence[str]
) -> tuple[list[Array], list[str]] | None:
    """The prompts that have a value of every seed and image in all ``tables``.

    Each table is [seeds, prompts, K] or [seeds, prompts]. Returns the tables with these prompts
    alone, and their categories; None where there is no such prompt.
    """
    kept: NDArray[np.bool_] = np.ones(len(categories), dtype=bool)
    for table in tables:
        finite = np.isfinite(table.reshape(*table.shape[:2], -1))
        kept &= finite.all(axis=(0, 2))
    if not kept.any():
        return None
    strata = [category for category, keep in zip(categories, kept, strict=True) if keep]
    return [table[:, kept] for table in tables], strata


def over_seeds(
    by_seed: ArrayLike, *, tested: bool = False, resamples: int = RESAMPLES, seed: int
) -> SeedEstimate:
    """Mean of one number per seed, such as a hypervolume: only seeds are resampled.

    ``tested`` adds the p-value of a mean of 0, for differences.

    Raises AdrpoError where ``by_seed`` is not a list of at least one finite number.
    """
    observed = np.asarray(by_seed, dtype=np.float64)
    if observed.ndim != 1 or observed.size == 0 or not np.isfinite(observed).all():
        raise AdrpoError(
            f"over_seeds: expected one finite number per seed; received {observed.tolist()}; "
            f"leave out the statistic where a seed lacks it"
        )
    return _estimate(observed, np.tile(observed[:, None], resamples), seed, tested=tested)


def standard_error(by_seed: ArrayLike) -> float:
    """Standard deviation (n - 1) over sqrt(seeds), as arXiv 2510.18053 prints; NaN for one seed."""
    observed = np.asarray(by_seed, dtype=np.float64)
    if observed.size < 2:
        return float("nan")
    return float(observed.std(ddof=1) / np.sqrt(observed.size))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number by Holm's step-down method, in the order given.

        p_(i) adjusted = min(1, max over j <= i of (m - j + 1) p_(j)),   p_(1) <= ... <= p_(m)

    An adjusted value below alpha keeps the chance of any false one among the m below alpha,
    whatever their dependence (Holm, "A Simple Sequentially Rejective Multiple Test Procedure",
    1979).
    """
    ordered = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(ordered, kind="stable")
    scaled = ordered[order] * np.arange(len(ordered), 0, -1)
    adjusted = np.empty_like(ordered)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return adjusted.tolist()


def _estimate(
    observed: Array, resampled: Array, seed: int, *, tested: bool = False
) -> SeedEstimate:
    """From the statistic of each seed [S] and its resamples [S, R] over prompts and images."""
    drawn = _resample_seeds(resampled, seed)
    low, high = np.quantile(drawn, QUANTILES)
    return SeedEstimate(
        mean=float(observed.mean()),
        low=float(low),
        high=float(high),
        standard_error=standard_error(observed),
        by_seed=tuple(observed.tolist()),
        p_value=_two_sided_p(drawn) if tested else None,
    )


def _resample_seeds(resampled: Array, seed: int) -> Array:
    """Means [R] over resampled seeds of ``resampled`` [S, R], stretched as the module tells."""
    seeds, resamples = resampled.shape
    if seeds == 1:
        return resampled[0]
    # A stream of its own: level 1 must not depend on how much the other levels drew.
    rng = np.random.default_rng([seed, seeds])
    counts = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    stretch = np.sqrt(seeds / rng.chisquare(seeds - 1, size=resamples))
    mean = resampled.mean(axis=0)
    return mean + stretch * (counts.T * (resampled - mean)).sum(axis=0) / seeds


def _two_sided_p(drawn: Array) -> float:
    """Twice the smaller tail beyond 0; the data itself counts as one of the resamples."""
    tail = min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
    return min(1.0, 2 * (1 + tail) / (1 + len(drawn)))


def _resampled_means(table: Array, categories: Sequence[str], resamples: int, seed: int) -> Array:
    """Means [S, R] over resampled prompts and images, the same ones for every seed."""
    seeds, _, samples = table.shape
    weights = _image_weights(tuple(categories), samples, resamples, seed)
    return table.reshape(seeds, -1) @ weights.T


# The same draw serves every method and metric of a comparison; a few tens of megabytes each.
@functools.lru_cache(maxsize=4)
def _image_weights(categories: tuple[str, ...], samples: int, resamples: int, seed: int) -> Array:
    """Weight of each image in each resample, [R, prompts x K]; those of a resample sum to 1."""
    rng = np.random.default_rng(seed)
    names = np.asarray(categories)
    counts = np.zeros((resamples, len(names), samples))
    # Sorted, so that the interval does not depend on the order in which categories occur.
    for category in sorted(set(categories)):
        rows = np.flatnonzero(names == category)
        prompts = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=resamples)
        counts[:, rows] = rng.multinomial(prompts * samples, np.full(samples, 1 / samples))
    weights = counts.reshape(resamples, -1) / (len(names) * samples)
    weights.setflags(write=False)
    return weights


def _pair(first: ArrayLike, second: ArrayLike, categories: Sequence[str]) -> tuple[Array, Array]:
    one, other = _table(first, categories, "first"), _table(second, categories, "second")
    if one.shape != other.shape:
        raise AdrpoError(
            f"paired statistics: expected two arrays of one shape [seeds, prompts, K]; received "
            f"{list(one.shape)} and {list(other.shape)}; evaluate both with the same seeds, "
            f"prompts and images"
        )
    return one, other


def _table(values: ArrayLike, categories: Sequence[str], name: str) -> Array:
    """``values`` as float64 [seeds, prompts, K], checked."""
    table = np.asarray(values, dtype=np.float64)
    if table.ndim == 2:
        table = table[:, :, None]
    if table.ndim != 3 or table.size == 0 or table.shape[1] != len(categories):
        raise AdrpoError(
            f"statistics over seeds: expected {name} of shape [seeds, prompts, K] with one "
            f"category per prompt; received shape {list(np.shape(values))} and "
            f"{len(categories)} categories"
        )
    bad = np.argwhere(~np.isfinite(table))
    if len(bad):
        place, prompt, image = bad[0]
        raise AdrpoError(
            f"statistics over seeds: expected finite {name}; received "
            f"{table[place, prompt, image]} for seed {place}, prompt {prompt}, image {image} "
            f"({len(bad)} of {table.size} values); leave the prompt out for every seed and method"
        )
    return table

"""95 % intervals of evaluation metrics: the hierarchical bootstrap, in numpy.

The data of one run are values [prompts, K]: K images for each prompt, and each prompt belongs to
a category. A resample draws, within each category, as many prompts as it has, with replacement,
and then, within each drawn prompt, K of its images with replacement. The categories themselves
are fixed by design, so differences between them add nothing to an interval.

Images are resampled on top of prompts, whose means already vary with their images; the images'
share of the variance is thus counted twice and the interval errs on the wide side. With K = 1
(a metric of a prompt, such as diversity) only prompts are resampled.

Percentile intervals: 2.5 % and 97.5 % quantiles of the resampled statistic (Efron and
Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13). They speak for other prompts
and noises of the same kind, not for another training seed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adrpo.errors import AdrpoError

QUANTILES = (0.025, 0.975)


class Interval(NamedTuple):
    """A statistic of the data and its 95 % bootstrap interval, all in the metric's unit."""

    mean: float
    low: float
    high: float


def bootstrap_mean(
    values: ArrayLike, categories: Sequence[str], *, resamples: int = 2000, seed: int
) -> Interval:
    """Mean over all images with its 95 % interval.

    ``values`` is [prompts, K], or [prompts] for a metric of a prompt; ``categories`` names the
    category of each prompt. The same ``seed`` gives the same interval.

    Raises AdrpoError on NaN or infinite values, and where the shapes disagree.
    """
    table = _table(values, categories, "values")
    means = _resampled_means(table[None], categories, resamples, seed)[0]
    return _interval(float(table.mean()), means)


def bootstrap_change(
    before: ArrayLike,
    after: ArrayLike,
    categories: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int,
) -> Interval:
    """Paired change mean(after) - mean(before) with its 95 % interval.

    Both are [prompts, K] or [prompts]; entry (p, k) of both stems from the same prompt and the
    same initial noise, and the pair is resampled as one.

    Raises AdrpoError as :func:`bootstrap_mean` does.
    """
    pair = _pair(before, after, categories)
    first, second = _resampled_means(pair, categories, resamples, seed)
    mean_before, mean_after = pair.mean(axis=(1, 2))
    return _interval(float(mean_after - mean_before), second - first)


def bootstrap_ratio(
    before: ArrayLike,
    after: ArrayLike,
    categories: Sequence[str],
    *,
    resamples: int = 2000,
    seed: int,
) -> Interval:
    """Paired ratio mean(after) / mean(before) with its 95 % interval: the share that is kept.

    For metrics that are 0 or more, such as diversity. Pairs as in :func:`bootstrap_change`.

    Raises AdrpoError as :func:`bootstrap_mean` does, and where ``before`` has a value below 0
    or a resample of it has mean 0, for which the ratio does not exist.
    """
    pair = _pair(before, after, categories)
    first, second = _resampled_means(pair, categories, resamples, seed)
    if pair[0].min() < 0 or first.min() == 0:
        raise AdrpoError(
            f"bootstrap_ratio: expected values of 0 or more before, with means above 0; received "
            f"a lowest value of {pair[0].min():g} and a lowest resampled mean of "
            f"{first.min():g}; use bootstrap_change"
        )
    mean_before, mean_after = pair.mean(axis=(1, 2))
    return _interval(float(mean_after / mean_before), second / first)


def _interval(statistic: float, resampled: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(resampled, QUANTILES)
    return Interval(statistic, float(low), float(high))


def _pair(before: ArrayLike, after: ArrayLike, categories: Sequence[str]) -> NDArray[np.float64]:
    first = _table(before, categories, "before")
    second = _table(after, categories, "after")
    if first.shape != second.shape:
        raise AdrpoError(
            f"paired bootstrap: expected before and after of one shape [prompts, K]; received "
            f"{list(first.shape)} and {list(second.shape)}; evaluate both on the same prompts"
        )
    return np.stack([first, second])


def _table(values: ArrayLike, categories: Sequence[str], name: str) -> NDArray[np.float64]:
    """``values`` as float64 [prompts, K], checked."""
    table = np.asarray(values, dtype=np.float64)
    if table.ndim == 1:
        table = table[:, None]
    if table.ndim != 2 or table.size == 0 or len(table) != len(categories):
        raise AdrpoError(
            f"bootstrap: expected {name} of shape [prompts, K] with one category per prompt; "
            f"received shape {list(np.shape(values))} and {len(categories)} categories"
        )
    bad = np.argwhere(~np.isfinite(table))
    if len(bad):
        prompt, image = bad[0]
        raise AdrpoError(
            f"bootstrap: expected finite {name}; received {table[prompt, image]} for prompt "
            f"{prompt}, image {image} ({len(bad)} of {table.size} values); exclude unscored "
            f"prompts from both sides before averaging"
        )
    return table


def _resampled_means(
    tables: NDArray[np.float64], categories: Sequence[str], resamples: int, seed: int
) -> NDArray[np.float64]:
    """Means [tables, resamples] of ``tables`` [tables, prompts, K], all resampled alike."""
    rng = np.random.default_rng(seed)
    count, prompts, samples = tables.shape
    names = np.asarray(categories)
    sums = np.zeros((count, resamples))
    # Sorted, so that the interval does not depend on the order in which categories occur.
    for category in sorted(set(categories)):
        rows = np.flatnonzero(names == category)
        drawn = rows[rng.integers(len(rows), size=(resamples, len(rows)))]
        if samples == 1:
            sums += tables[:, drawn, 0].sum(-1)
            continue
        images = rng.integers(samples, size=(*drawn.shape, samples))
        sums += tables[:, drawn[..., None], images].sum((-2, -1))
    return sums / (prompts * samples)

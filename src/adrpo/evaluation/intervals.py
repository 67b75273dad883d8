"""The one form of every interval: crossed random effects of seeds and prompts, in closed form.

The data of a method are values [seeds, prompts, K]: every training seed was evaluated on the same
prompts from the same K initial noises. With y_sp the mean over the images of seed s and prompt p
(an image belongs to its prompt, so that its spread is part of what follows),

    y_sp = mu_c(p) + a_s + b_p + e_sp,

a_s the seed, b_p the prompt within its category c, e_sp what depends on both. Categories are
fixed by design: differences between them add nothing to an interval. The mean over all is mu, and

    var = V_A + V_B - V_E

    V_A   the sample variance of the seeds' means, over S
    V_B   sum over c of (n_c / P)^2 / n_c times the sample variance, within c, of the prompts' means
    V_E   the share of e_sp that is in both: the same sum over the residuals of the two-way table
          within c, over S

is its unbiased variance. Every sample variance divides by n - 1 (a bootstrap divides by n). The
interval is Student's, mean ± t(0.975, nu) sqrt(var), with Satterthwaite's degrees of freedom

    nu = var^2 / (V_A^2 / (S - 1) + sum over c of V_B,c^2 / (n_c - 1)
                  + sum over c of V_E,c^2 / ((S - 1)(n_c - 1)))

(Satterthwaite, "An Approximate Distribution of Estimates of Variance Components", 1946). Where
chance makes var smaller than V_A or V_B alone, the larger of the two stands in its place. nu is 1
at least, that of two seeds: with V_E in the sum it can fall to 0 for a few seeds and prompts, where
Student's law has no width left to print.
``benchmarks/interval_coverage.py`` simulates how often the intervals cover, on the variances of our
runs.

A category of fewer than SMALL prompts tells too little of its own spread: such categories are
pooled into one stratum, with the next smallest where they are too few together
(:func:`pooled_categories`). Pooling adds the differences between them, and so errs on the wide
side.

Prompts that are each seed's own are b_p + e_sp of one cell: the same formula is unbiased for them.
With one seed V_A and V_E fall away, and the interval speaks for that seed alone. With one seed and
one prompt, or one number, there is no interval: ``low`` and ``high`` are NaN.

A statistic that is no mean is taken as the mean of its linearised values (the delta method):
:func:`paired_ratio`, and a reward at an equal price (:mod:`adrpo.comparison.equal_price`).
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from adrpo.errors import AdrpoError

Array = NDArray[np.float64]

COVERAGE = 0.95
"""Share of the intervals that are to hold the truth."""

POWER = 0.8
"""Chance with which a difference of the size ``detectable`` is told from 0."""

SMALL = 4
"""Prompts below which a category has no stratum of its own."""


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95 % interval, in the metric's unit."""

    mean: float
    low: float
    """Lower end of the interval; NaN where there is none."""
    high: float
    standard_error: float
    """Standard deviation of ``by_seed`` (n - 1) over sqrt(seeds), as arXiv 2510.18053 prints it;
    NaN for one seed."""
    by_seed: tuple[float, ...]
    """The statistic of each seed; ``mean`` is their mean."""
    detectable: float
    """(t(0.975, nu) + t(0.8, nu)) sqrt(var): the smallest difference from 0 that this design would
    have told with a chance of 80 %; NaN where there is no interval."""
    p_value: float
    """Two-sided, of the hypothesis that the statistic is 0; NaN where there is no interval."""

    def to_json(self, *, tested: bool = False) -> dict[str, Any]:
        """The estimate as JSON values, ``tested`` with p-value and detectable difference; a number
        that does not exist is null."""
        found: dict[str, Any] = {
            name: number(getattr(self, name)) for name in ("mean", "low", "high", "standard_error")
        }
        found["seeds"] = list(self.by_seed)
        if tested:
            found |= {name: number(getattr(self, name)) for name in ("p_value", "detectable")}
        return found


def number(value: float) -> float | None:
    """``value`` as JSON has it: null for NaN."""
    return None if math.isnan(value) else value


def mean_over_seeds(values: ArrayLike, categories: Sequence[str]) -> Estimate:
    """Mean over seeds, prompts and images.

    ``values`` is [seeds, prompts, K], or [seeds, prompts] for a metric of a prompt;
    ``categories`` names the category of each prompt. One run is one seed: ``values[None]``.

    Raises AdrpoError on NaN or infinite values, and where the shapes disagree.
    """
    return _estimate(_table(values, categories, "values"), categories)


def paired_difference(
    values: ArrayLike, reference: ArrayLike, categories: Sequence[str]
) -> Estimate:
    """mean(values) - mean(reference), paired by seed, prompt and noise.

    Both are of one shape, [seeds, prompts, K] or [seeds, prompts].

    Raises AdrpoError as :func:`mean_over_seeds` does.
    """
    ours, theirs = _pair(values, reference, categories)
    return _estimate(ours - theirs, categories)


def paired_ratio(before: ArrayLike, after: ArrayLike, categories: Sequence[str]) -> Estimate:
    """Mean over seeds of r_s = mean(after) / mean(before) of a seed: the share that is kept.

    For metrics that are 0 or more, such as diversity. Its linearised values are
    r_s + (after - r_s before) / mean(before); shapes and pairs as in :func:`paired_difference`.

    Raises AdrpoError as :func:`mean_over_seeds` does, and where ``before`` has a value below 0
    or a seed's mean of it is 0, for which the ratio does not exist.
    """
    first, second = _pair(before, after, categories)
    below = first.mean(axis=1, keepdims=True)
    if first.min() < 0 or below.min() == 0:
        raise AdrpoError(
            f"paired_ratio: expected values of 0 or more before, with means above 0; received a "
            f"lowest value of {first.min():g} and a lowest mean of {below.min():g}; use "
            f"paired_difference"
        )
    ratio = second.mean(axis=1, keepdims=True) / below
    return _estimate(ratio + (second - ratio * first) / below, categories)


def over_seeds(by_seed: ArrayLike) -> Estimate:
    """Mean of one number per seed, such as a hypervolume: Student's interval over the seeds alone.

    Raises AdrpoError where ``by_seed`` is not a list of at least one finite number.
    """
    observed = np.asarray(by_seed, dtype=np.float64)
    if observed.ndim != 1 or observed.size == 0 or not np.isfinite(observed).all():
        raise AdrpoError(
            f"over_seeds: expected one finite number per seed; received {observed.tolist()}; "
            f"leave out the statistic where a seed lacks it"
        )
    return _estimate(observed[:, None], [""])


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


def pooled_categories(categories: Sequence[str]) -> list[str]:
    """Names of the categories that share one stratum, sorted; empty where each has its own.

    They are those of fewer than SMALL prompts and, until they have SMALL together, the next
    smallest ones (of equal size the first in the alphabet).
    """
    counts = Counter(categories)
    by_size = sorted(counts, key=lambda name: (counts[name], name))
    pooled: list[str] = []
    for name in by_size:
        together = sum(counts[known] for known in pooled)
        if counts[name] >= SMALL and (not pooled or together >= SMALL):
            break
        pooled.append(name)
    return sorted(pooled) if len(pooled) > 1 else []


def _estimate(values: Array, categories: Sequence[str]) -> Estimate:
    """The mean of ``values`` [seeds, prompts] and its interval."""
    by_seed = values.mean(axis=1)
    mean = float(by_seed.mean())
    variance, freedom = (float(own[0]) for own in variances_of_means(values[None], categories))
    deviation = math.sqrt(variance)
    tail = float(stdtrit(freedom, (1 + COVERAGE) / 2)) * deviation
    if deviation > 0:
        p_value = 2 * float(stdtr(freedom, -abs(mean) / deviation))
    else:
        # All seeds and prompts say the same, or there is nothing that could vary.
        p_value = math.nan if math.isnan(deviation) else float(mean == 0)
    return Estimate(
        mean=mean,
        low=mean - tail,
        high=mean + tail,
        standard_error=standard_error(by_seed),
        by_seed=tuple(by_seed.tolist()),
        detectable=tail + float(stdtrit(freedom, POWER)) * deviation,
        p_value=p_value,
    )


def variances_of_means(values: Array, categories: Sequence[str]) -> tuple[Array, Array]:
    """Variance of the mean of each table of ``values`` [tables, seeds, prompts], and its degrees of
    freedom, as the module tells: two [tables], of NaN where there is one seed with one prompt."""
    _, seeds, prompts = values.shape
    nothing = np.zeros(len(values))
    of_seeds = values.mean(axis=2).var(axis=1, ddof=1) / seeds if seeds > 1 else nothing
    of_prompts, of_cells = nothing.copy(), nothing.copy()
    squares = of_seeds**2 / max(seeds - 1, 1)
    for columns in _strata(categories):
        table, count = values[:, :, columns], len(columns)
        if count < 2:
            continue
        means = table.mean(axis=1)
        own = count / prompts**2 * means.var(axis=1, ddof=1)
        of_prompts += own
        squares += own**2 / (count - 1)
        if seeds < 2:
            continue
        residuals = table - means[:, None] - table.mean(axis=2, keepdims=True)
        residuals += table.mean(axis=(1, 2), keepdims=True)
        freedom = (seeds - 1) * (count - 1)
        own = count / prompts**2 * (residuals**2).sum(axis=(1, 2)) / freedom / seeds
        of_cells += own
        squares += own**2 / freedom
    variance = np.maximum(of_seeds + of_prompts - of_cells, np.maximum(of_seeds, of_prompts))
    if seeds == 1 and prompts == 1:
        return np.full(len(values), np.nan), np.full(len(values), np.nan)
    # Without any spread no law is needed: 1 keeps the quantiles finite.
    freedom = np.divide(variance**2, squares, out=np.ones_like(variance), where=squares > 0)
    return variance, np.maximum(freedom, 1)


def _strata(categories: Sequence[str]) -> list[NDArray[np.intp]]:
    """Columns of each stratum: of a category, or of those that are pooled."""
    pooled = set(pooled_categories(categories))
    names = np.array(["" if name in pooled else f"={name}" for name in categories])
    return [np.flatnonzero(names == name) for name in sorted(set(names.tolist()))]


def _pair(first: ArrayLike, second: ArrayLike, categories: Sequence[str]) -> tuple[Array, Array]:
    shapes = [list(np.shape(side)) for side in (first, second)]
    if shapes[0] != shapes[1]:
        raise AdrpoError(
            f"paired statistics: expected two arrays of one shape [seeds, prompts, K]; received "
            f"{shapes[0]} and {shapes[1]}; evaluate both with the same seeds, prompts and images"
        )
    return _table(first, categories, "first"), _table(second, categories, "second")


def _table(values: ArrayLike, categories: Sequence[str], name: str) -> Array:
    """The means over images of ``values``, as float64 [seeds, prompts], checked."""
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
    return table.mean(axis=2)

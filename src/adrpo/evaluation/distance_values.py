"""Distances of sets of images as values of their prompts, whose mean is the distance.

A distance of two sets is no mean, so that prompts have no values of their own. What stands here for
them are its linearised values: the distance, plus its derivative by the weight of the prompt among
all. Their mean is the distance exactly, and their spread over prompts is its spread to first order
(the infinitesimal jackknife), so that they are read as the values of any other metric: intervals,
changes and comparisons follow from them (:mod:`adrpo.evaluation.intervals`).

Features are [prompts, K, d] of the images that are measured, and of the references

- [prompts, K', d] where these are of the same prompts. A prompt then carries the images of both
  sets. Its value is NaN where one of its images is missing in either.
- [m, d] otherwise. They are taken as given: what another set of references would have changed is
  not in the spread.

A row of features that is not finite is an image that is missing; its prompt is in neither set.
Of fewer than LEAST prompts all values are NaN: there are too few pairs to tell how they differ.
Raises AdrpoError, all of these, where features differ in number, or where fewer than two references
are left.
"""

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from adrpo.errors import AdrpoError
from adrpo.evaluation.intervals import Array

LEAST = 3
"""Prompts that a distance needs."""

BLOCK = 2_000_000
"""Kernel values in memory at once."""


def frechet_values(
    features: Float[Tensor, "prompts k d"], references: Float[Tensor, "... d"]
) -> Array:
    """Linearised values [prompts] of :func:`~adrpo.evaluation.distances.frechet_distance`.

    With F the distance, mu_1, S_1 and mu_2, S_2 the fitted distributions of n and m images, T the
    map that carries the first covariance to the second (T S_1 T = S_2), and z = x - mu_1, an image
    x adds

        2 (mu_1 - mu_2) . z + n / (n - 1) z' (I - T) z - tr S_1 (I - T)

    to F, and a reference of the same prompt the same with both sets exchanged.
    """
    images, others, kept = _sets(features, references)
    found = np.full(len(kept), np.nan)
    if len(images) < LEAST:
        return found
    if np.array_equal(images, others):
        found[kept] = 0  # and not a rounding beside it
        return found
    flat, flat_others = (part.reshape(-1, part.shape[-1]) for part in (images, others))
    apart = flat.mean(axis=0) - flat_others.mean(axis=0)
    root, values = _frechet_half(flat, flat_others, apart)
    values = values.reshape(images.shape[:2]).mean(axis=1)
    if others.ndim == 3:
        _, theirs = _frechet_half(flat_others, flat, -apart)
        values = values + theirs.reshape(others.shape[:2]).mean(axis=1)
    spreads = sum(part.var(axis=0, ddof=1).sum() for part in (flat, flat_others))
    found[kept] = apart @ apart + spreads - 2 * root + values
    return found


def _frechet_half(own: Array, others: Array, apart: Array) -> tuple[float, Array]:
    """tr (S_1 S_2)^(1/2), and what each of ``own`` [n, d] adds to the distance.

    With X the centred images over sqrt(n - 1) and S_2 = L L', the root's trace is the sum of the
    singular values of X L = U D V', and X T X' is U D U': no covariance has to be inverted.
    """
    centred = own - own.mean(axis=0)
    scale = len(own) - 1
    eigenvalues, directions = np.linalg.eigh(np.atleast_2d(np.cov(others, rowvar=False)))
    root_of_theirs = directions * np.sqrt(eigenvalues.clip(min=0))
    u, singular, _ = np.linalg.svd(centred @ root_of_theirs / np.sqrt(scale), full_matrices=False)
    carried = scale * (u**2 @ singular)
    stretched = len(own) / scale * ((centred**2).sum(axis=1) - carried)
    return float(singular.sum()), 2 * centred @ apart + stretched - stretched.mean()


def kernel_values(
    features: Float[Tensor, "prompts k d"],
    references: Float[Tensor, "... d"],
    *,
    among: float | None = None,
) -> Array:
    """Values [prompts] of the unbiased kernel distance by k(x, y) = (x . y / d + 1)^3.

    The distance is

        mean k(x_i, x_j) + mean k(y_i, y_j) - 2 mean k(x_i, y_j)

    over all pairs of two images of different prompts. Images of one prompt are alike whatever drew
    them, so that pairs of them would add to the first mean alone. Where each image has a prompt of
    its own it is the :func:`~adrpo.evaluation.distances.kernel_distance` of the whole sets, of
    which that one averages random subsets. Of references of the same prompts, pairs of one prompt
    are left out of all three means (the unbiased statistic of pairs, eq. 4 of Gretton et al., "A
    Kernel Two-Sample Test", 2012): equal sets have exactly 0.

    The value of a prompt is the jackknife's: of P prompts, the distance plus 2 (P - 1) / (P - 2)
    times what the mean over the pairs with this prompt has above it, or plus -2 times that where it
    is of images and references that have no prompt.

    ``among`` is :func:`mean_kernel` of references without prompts, where it is known.
    """
    images, others, kept = _sets(features, references)
    found = np.full(len(kept), np.nan)
    prompts = len(images)
    if prompts < LEAST:
        return found
    if np.array_equal(images, others):
        found[kept] = 0  # and not a rounding beside it
        return found
    weight = 2 * (prompts - 1) / (prompts - 2)
    within = _means(images, images, paired=True)
    if others.ndim == 3:
        pairs = within + _means(others, others, paired=True)
        pairs = pairs - _means(images, others, paired=True) - _means(others, images, paired=True)
        found[kept] = pairs.mean() + weight * (pairs - pairs.mean())
        return found
    between = _means(images, others[:, None], paired=False)
    among = mean_kernel(references) if among is None else among
    distance = within.mean() + among - 2 * between.mean()
    found[kept] = distance + weight * (within - within.mean()) - 2 * (between - between.mean())
    return found


def mean_kernel(references: Float[Tensor, "m d"]) -> float:
    """Mean kernel of all pairs of two ``references``: the mean of a distance that is theirs alone.

    Its cost grows with the square of their number.
    """
    _, others, _ = _sets(references[:, None], references)
    return float(_means(others[:, None], others[:, None], paired=True).mean())


def _means(own: Array, others: Array, *, paired: bool) -> Array:
    """Mean kernel [prompts] of each prompt's images with ``others`` [groups, k, d]; where
    ``paired``, with those of the other prompts."""
    width = own.shape[-1]
    flat = others.reshape(-1, width)
    found = np.empty(len(own))
    at_once = max(BLOCK // (own.shape[1] * len(flat)), 1)
    for start in range(0, len(own), at_once):
        rows = own[start : start + at_once]
        kernel = (rows.reshape(-1, width) @ flat.T / width + 1) ** 3
        sums = kernel.reshape(len(rows), -1).sum(axis=1)
        if paired:
            same = (
                np.einsum("pid,pjd->pij", rows, others[start : start + at_once]) / width + 1
            ) ** 3
            sums -= same.sum(axis=(1, 2))
        found[start : start + at_once] = sums
    return found / (own.shape[1] * (len(flat) - (others.shape[1] if paired else 0)))


def _sets(features: Tensor, references: Tensor) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Both sets as float64 without the prompts that lack an image, and which prompts are left."""
    images, others = (part.detach().cpu().double().numpy() for part in (features, references))
    if images.shape[-1] != others.shape[-1]:
        raise AdrpoError(
            f"distances: expected features of one network; received {images.shape[-1]} and "
            f"{others.shape[-1]} numbers an image"
        )
    kept, known = (
        np.asarray(np.isfinite(part.reshape(len(part), -1)).all(1), dtype=np.bool_)
        for part in (images, others)
    )
    if others.ndim == 3:
        kept = known = kept & known
    elif known.sum() < 2:
        raise AdrpoError(f"distances: expected at least 2 references; received {known.sum()}")
    return images[kept], others[known], kept

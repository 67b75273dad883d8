"""Distances between two sets of images, as pure functions of their features.

FID and KID are these formulas on the pool features of one Inception network, which is not shipped
here; on other features they are other numbers, and have to be named by the network that made them.
Both compare sets and not prompts: a set of images of other prompts is far away.
"""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from adrpo.errors import AdrpoError


def frechet_distance(features: Float[Tensor, "n d"], others: Float[Tensor, "m d"]) -> float:
    """Fréchet distance of two normal distributions that are fitted to the sets; at least 0.

        |mu_1 - mu_2|^2 + tr(S_1) + tr(S_2) - 2 tr((S_1 S_2)^(1/2))

    with the means and the unbiased covariances (divided by n - 1), in float64. The trace of the
    root is the sum of the roots of the eigenvalues of S_1 S_2. On Inception's 2048 features it is
    the FID (arXiv 1706.08500).

    It is biased: two sets of one distribution are apart, the more the smaller they are. Compare
    values of equal numbers of images only, and prefer :func:`kernel_distance` for fewer than some
    thousands.

    Raises AdrpoError where the features differ in number, are not finite, or where a set has fewer
    than two images.
    """
    first, second = _checked("frechet_distance", features, others, least=2)
    means = (first.mean(axis=0), second.mean(axis=0))
    spreads = [np.atleast_2d(np.cov(part, rowvar=False)) for part in (first, second)]
    # Of a product of two covariances; rounding makes some of them a little negative or complex.
    eigenvalues = np.linalg.eigvals(spreads[0] @ spreads[1]).astype(np.complex128)
    root = np.real(np.sqrt(eigenvalues)).sum()
    apart = ((means[0] - means[1]) ** 2).sum()
    return float(apart + np.trace(spreads[0]) + np.trace(spreads[1]) - 2 * root)


def kernel_distance(
    features: Float[Tensor, "n d"],
    others: Float[Tensor, "m d"],
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 2020,
) -> tuple[float, float]:
    """Unbiased squared distance of mean embeddings (MMD) by a cubic kernel: mean and standard
    deviation over random subsets.

        k(x, y) = (x . y / d + 1)^3
        sum_(i != j) k(x_i, x_j) / (m (m - 1)) + sum_(i != j) k(y_i, y_j) / (m (m - 1))
            - 2 sum_(i, j) k(x_i, y_j) / m^2

    over m = ``subset_size`` images of each set, drawn without repetition, in float64. Its
    expectation is 0 for two sets of one distribution, so that values a little below 0 are right,
    whatever the numbers of images. On Inception's 2048 features it is the KID (arXiv 1801.01401).

    ``subsets``, ``subset_size`` and ``seed`` are by default those of torch-fidelity, and the
    subsets the same as its.

    Raises AdrpoError where the features differ in number, are not finite, or where a set is smaller
    than a subset; a subset has at least two.
    """
    size = max(subset_size, 2)
    first, second = _checked("kernel_distance", features, others, least=size)
    if subsets < 1 or subset_size < 2:
        raise AdrpoError(
            f"kernel_distance: expected subsets of 1 or more and a subset_size of 2 or more; "
            f"received {subsets} and {subset_size}"
        )
    draw = np.random.RandomState(seed)
    found = np.empty(subsets)
    for place in range(subsets):
        x = first[draw.choice(len(first), size, replace=False)]
        y = second[draw.choice(len(second), size, replace=False)]
        found[place] = _unbiased(x, y)
    return float(found.mean()), float(found.std())


def _unbiased(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    m, d = x.shape
    within = 0.0
    for own in (x, y):
        kernel = (own @ own.T / d + 1) ** 3
        within += (kernel.sum() - np.trace(kernel)) / (m * (m - 1))
    between = (x @ y.T / d + 1) ** 3
    return float(within - 2 * between.mean())


def _checked(
    name: str, features: Tensor, others: Tensor, *, least: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both sets as float64."""
    sets = [part.detach().cpu().to(torch.float64).numpy() for part in (features, others)]
    if sets[0].shape[1] != sets[1].shape[1]:
        raise AdrpoError(
            f"{name}: expected features of one network; received {sets[0].shape[1]} and "
            f"{sets[1].shape[1]} numbers an image"
        )
    for part in sets:
        if len(part) < least:
            raise AdrpoError(
                f"{name}: expected at least {least} images in each set; received {len(part)}"
            )
        if not np.isfinite(part).all():
            raise AdrpoError(f"{name}: expected finite features; received NaN or infinity")
    return sets[0], sets[1]

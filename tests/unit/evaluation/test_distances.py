"""Distances between sets of images: known values, identities, and the sums written out."""

from itertools import product

import numpy as np
import pytest
import scipy.linalg
import torch

from adrpo.errors import AdrpoError
from adrpo.evaluation.distances import frechet_distance, kernel_distance


def drawn(count: int, width: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(width, width, generator=torch.Generator().manual_seed(0))
    rows = torch.randn(count, width, generator=generator, dtype=torch.float64)
    return rows @ mixed.double() + shift


def test_the_frechet_distance_of_numbers_is_that_of_two_normal_distributions() -> None:
    # Of one number an image: (mu_1 - mu_2)^2 + (s_1 - s_2)^2.
    x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0], [5.0], [11.0]])
    expected = (1 - 7) ** 2 + (2**0.5 - 12**0.5) ** 2
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-12)


def test_the_frechet_distance_agrees_with_a_matrix_root() -> None:
    x, y = drawn(60, 6, 1), drawn(80, 6, 2, shift=0.4) * 1.3
    means = [part.numpy().mean(0) for part in (x, y)]
    first, second = (np.cov(part.numpy(), rowvar=False) for part in (x, y))
    root = np.real(scipy.linalg.sqrtm(first @ second))
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(first + second - 2 * root)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(y, x) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    # A shift of all images adds its square, whatever their spread.
    assert frechet_distance(x, x + 2.0) == pytest.approx(6 * 4, rel=1e-6)
    # Turned and mirrored alike, the sets are as far apart.
    turn = torch.linalg.qr(drawn(6, 6, 3)).Q
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(expected, rel=1e-8)


def test_the_kernel_distance_is_the_sum_over_pairs_written_out() -> None:
    x, y = drawn(4, 3, 1), drawn(4, 3, 2, shift=0.5)

    def k(a: torch.Tensor, b: torch.Tensor) -> float:
        return (float(a @ b) / 3 + 1) ** 3

    pairs = [(i, j) for i, j in product(range(4), repeat=2) if i != j]
    expected = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs) / 12
    expected -= 2 * sum(k(a, b) for a, b in product(x, y)) / 16
    mean, deviation = kernel_distance(x, y, subsets=3, subset_size=4)
    # Every subset is the whole set, in another order.
    assert mean == pytest.approx(expected, rel=1e-12)
    assert deviation == pytest.approx(0, abs=1e-12 * abs(expected))


def test_the_kernel_distance_of_one_distribution_is_0_whatever_the_number() -> None:
    """Where a sum over all pairs, i = j included, would be far above 0."""
    found = [
        kernel_distance(drawn(20, 4, seed), drawn(20, 4, 1000 + seed), subsets=1, subset_size=20)[0]
        for seed in range(400)
    ]
    error = np.std(found) / len(found) ** 0.5
    assert abs(np.mean(found)) < 3.5 * error
    far = kernel_distance(drawn(20, 4, 1), drawn(20, 4, 2, shift=2.0), subsets=1, subset_size=20)
    assert far[0] > 10 * np.std(found)


def test_subsets_are_those_of_the_seed_and_without_repetition() -> None:
    x, y = drawn(30, 3, 1), drawn(25, 3, 2, shift=1.0)
    draw = np.random.RandomState(2020)
    expected = []
    for _ in range(5):
        rows = torch.from_numpy(draw.choice(30, 10, replace=False))
        columns = torch.from_numpy(draw.choice(25, 10, replace=False))
        expected.append(kernel_distance(x[rows], y[columns], subsets=1, subset_size=10)[0])
    found = kernel_distance(x, y, subsets=5, subset_size=10)
    assert found == pytest.approx((np.mean(expected), np.std(expected)), rel=1e-9)
    assert kernel_distance(x, y, subsets=5, subset_size=10, seed=1) != found


def test_sets_that_can_t_be_compared_are_refused_in_one_line() -> None:
    x = drawn(5, 3, 1)
    for call, words in (
        (lambda: frechet_distance(x, drawn(5, 4, 1)), "received 3 and 4 numbers"),
        (lambda: frechet_distance(x[:1], x), "at least 2 images"),
        (lambda: kernel_distance(x, x), "at least 1000 images in each set; received 5"),
        (lambda: kernel_distance(x, x / 0, subset_size=4), "finite features"),
        (lambda: kernel_distance(x, x, subset_size=1), "a subset_size of 2 or more"),
        (lambda: kernel_distance(x, x, subsets=0, subset_size=4), "received 0 and 4"),
    ):
        with pytest.raises(AdrpoError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)

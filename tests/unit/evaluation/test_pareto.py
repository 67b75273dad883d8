"""Fronts, areas and interpolation against brute force and hand-drawn cases."""

import math

import numpy as np
import pytest

from adrpo.errors import AdrpoError
from adrpo.evaluation.pareto import (
    best_of_n_kl,
    hypervolume,
    pareto_front,
    selection_kl,
)


def test_the_front_of_a_drawn_case() -> None:
    #         dominated      on it   equal to it   worse x, equal y
    points = [(1, 1), (3, 1), (2, 2), (2, 2), (1, 2), (0, 4)]
    assert pareto_front(points).tolist() == [1, 2, 5]


@pytest.mark.parametrize("trial", range(5))
def test_the_front_is_what_no_point_dominates(trial: int) -> None:
    # Few distinct coordinates, so that ties occur.
    points = np.random.default_rng(trial).integers(0, 6, size=(30, 2)).astype(float)
    front = set(pareto_front(points).tolist())
    for index, point in enumerate(points):
        dominated = any((other >= point).all() and (other > point).any() for other in points)
        first = not any((other == point).all() for other in points[:index])
        assert (index in front) == (not dominated and first)


@pytest.mark.parametrize("trial", range(5))
def test_the_hypervolume_is_the_number_of_dominated_cells(trial: int) -> None:
    # Corners on an integer grid: the union of rectangles is a set of unit cells, counted exactly.
    points = np.random.default_rng(trial).integers(0, 12, size=(15, 2))
    reference = (3, 2)
    cells = np.zeros((12, 12), dtype=bool)
    for x, y in points:
        cells[reference[0] : max(x, reference[0]), reference[1] : max(y, reference[1])] = True
    assert hypervolume(points, reference) == cells.sum()


def test_the_hypervolume_of_real_points_by_monte_carlo() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(size=(8, 2))
    darts = rng.uniform(size=(40_000, 2))
    hit = (darts[:, None] <= points).all(-1).any(-1).mean()
    # A share of 40,000 darts has a standard error of at most 0.0025; four of them.
    assert hypervolume(points, (0, 0)) == pytest.approx(hit, abs=0.01)


def test_a_dominated_point_adds_nothing_and_scales_are_areas() -> None:
    points = np.array([[2.0, 5.0], [4.0, 3.0]])
    area = hypervolume(points, (1, 1))
    assert area == 1 * 4 + 2 * 2  # by hand
    assert hypervolume([*points, (2, 3)], (1, 1)) == area
    assert hypervolume(points * (10, 2), (10, 2)) == 20 * area
    assert hypervolume([(0, 9), (9, 0), (1, 9)], (1, 1)) == 0


def test_best_of_n_is_the_kl_of_the_order_statistic() -> None:
    # The best of n has density n F^(n-1) against the base's, so that with u = F(reward)
    # KL = integral of n u^(n-1) log(n u^(n-1)) du over (0, 1).
    u = (np.arange(200_000) + 0.5) / 200_000
    for n in (2, 4, 16):
        density = n * u ** (n - 1)
        # The midpoint rule's error for a smooth integrand of this size: below 1e-8.
        assert best_of_n_kl(n) == pytest.approx(np.mean(density * np.log(density)), abs=1e-6)
    assert best_of_n_kl(1) == 0


def test_without_ties_the_selection_has_the_kl_of_the_order_statistic() -> None:
    draws = np.random.default_rng(0).normal(size=(2, 20_000))
    for n in (1, 2, 4, 16):
        # Masses of 1/20000 in place of a density: a Riemann sum whose error is of order n/20000.
        assert selection_kl(draws, n) == pytest.approx([best_of_n_kl(n)] * 2, abs=n / 10_000)


@pytest.mark.parametrize("n", [1, 2, 5, 64])
def test_ties_lower_the_kl_of_the_selection(n: int) -> None:
    """Right or wrong: the best of n is wrong where all n are, so that KL is of two coins."""
    wrong = 0.75
    still = wrong**n
    expected = still * math.log(still / wrong) + (1 - still) * math.log((1 - still) / (1 - wrong))
    found = selection_kl([[0, 0, 0, 1], [7, 7, 7, 7], [-math.inf, 2, -math.inf, -math.inf]], n)
    # Rounding of sums of two numbers of size 1.
    assert found == pytest.approx([expected, 0, expected], abs=1e-12)
    assert (found <= best_of_n_kl(n) + 1e-12).all()


def test_refusals() -> None:
    with pytest.raises(AdrpoError, match=r"shape \[n, 2\]; received shape \[3\]"):
        pareto_front([1, 2, 3])
    with pytest.raises(AdrpoError, match="NaN or infinity"):
        hypervolume([(1, math.nan)], (0, 0))
    with pytest.raises(AdrpoError, match="received 0"):
        best_of_n_kl(0)
    with pytest.raises(AdrpoError, match=r"n = 0 and shape \[1, 2\]"):
        selection_kl([[1, 2]], 0)
    with pytest.raises(AdrpoError, match="without NaN"):
        selection_kl([[1, math.nan]], 2)

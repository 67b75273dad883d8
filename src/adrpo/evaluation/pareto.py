"""Trade-offs of two quantities: fronts, hypervolume, and what best of n costs.

Both axes are maximised; negate one that is better when small, such as a divergence.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adrpo.errors import AdrpoError


def pareto_front(points: ArrayLike) -> NDArray[np.intp]:
    """Indices of the points [n, 2] that no other dominates, by falling first coordinate.

    A point dominates another where it is at least as large on both axes and larger on one. Of
    equal points the first one stays.

    Raises AdrpoError where ``points`` is not [n, 2] of finite numbers.
    """
    table = _points(points)
    # By falling x, then falling y, then place: a point is on the front where y exceeds all before.
    order = np.lexsort((np.arange(len(table)), -table[:, 1], -table[:, 0]))
    front, highest = [], -math.inf
    for index in order:
        if table[index, 1] > highest:
            front.append(index)
            highest = table[index, 1]
    return np.array(front, dtype=np.intp)


def hypervolume(points: ArrayLike, reference: tuple[float, float]) -> float:
    """Area that the points [n, 2] dominate above ``reference``, exactly.

    The union of the rectangles from ``reference`` to each point, in the product of the axes'
    units; 0 without a point that exceeds ``reference`` on both axes. Fix ``reference`` before any
    result is known: the ranking of two fronts can depend on it.

    Raises AdrpoError as :func:`pareto_front` does.
    """
    table = _points(points)
    area, height = 0.0, reference[1]
    for x, y in table[pareto_front(table)]:
        if x > reference[0] and y > height:
            area += (x - reference[0]) * (y - height)
            height = y
    return float(area)


def best_of_n_kl(n: int) -> float:
    """KL(best of n || base) = log n - (n - 1)/n, in nats.

    Exact where rewards have no ties; with ties an upper bound (Beirami et al., arXiv 2401.01879).

    Raises AdrpoError where n < 1.
    """
    if n < 1:
        raise AdrpoError(f"best_of_n_kl: expected n of 1 or more; received {n}")
    return math.log(n) - (n - 1) / n


def selection_kl(rewards: ArrayLike, n: int) -> NDArray[np.float64]:
    """KL(best of n || base) of each prompt in nats, ties counted.

    Of draws with equal rewards best of n keeps the base's proportions. With p the mass of such a
    class and F that of the rewards up to it,

        KL = sum over classes of q log(q / p),   q = F^n - (F - p)^n,

    which is :func:`best_of_n_kl` where no draws tie, and 0 where all do. The masses are those of
    the draws, so that there must be many more of them than n: the KL is at most the log of their
    number.

    Args:
        rewards: [prompts, draws] of the base; -inf for a draw that loses against any other.
        n: 1 or more.

    Raises AdrpoError where n < 1, or a reward is NaN.
    """
    table = np.asarray(rewards, dtype=np.float64)
    if n < 1 or table.ndim != 2 or np.isnan(table).any():
        raise AdrpoError(
            f"selection_kl: expected n of 1 or more and rewards [prompts, draws] without NaN; "
            f"received n = {n} and shape {list(table.shape)}"
        )
    found = []
    for row in table:
        p = np.unique(row, return_counts=True)[1] / len(row)
        up_to = p.cumsum()
        q = up_to**n - (up_to - p) ** n
        # Powers of small masses underflow to 0, where q log q is 0.
        found.append(np.sum(q * np.log(np.where(q > 0, q, p) / p)))
    return np.array(found)


def _points(points: ArrayLike) -> NDArray[np.float64]:
    table = np.asarray(points, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != 2 or not np.isfinite(table).all():
        raise AdrpoError(
            f"pareto: expected finite points of shape [n, 2]; received shape {list(table.shape)}"
            f"{' with NaN or infinity' if not np.isfinite(table).all() else ''}"
        )
    return table

"""Rewards of two methods at an equal price: read off their runs, and their paired difference.

The price is what a reward is paid with: a divergence that is spent, or a diversity that is left. Of
each seed's evaluations r_t (the reward) and d_t (the price), means over prompts and images, the
reward where the price first reaches the level L is

    r(L) = (1 - w) r_t + w r_t+1,   w = (g(L) - g(d_t)) / (g(d_t+1) - g(d_t)).

For a divergence g is the root. Near the base a step of length h gains reward in proportion to h and
costs divergence in proportion to h^2, so that the reward grows like the root (Gao et al., arXiv
2210.10760); a chord in the divergence itself reads too little reward in the first stretch, the more
the longer it is. For a diversity g is the identity. There is no extrapolation. A run that never
reaches L counts with its last evaluation, as the page says: on a diversity that is the least that
it would have had there.

r(L) depends on the values of single prompts, R_p and D_p, through means alone, so that its
linearised values (the delta method) are

    r(L) + (1 - w)(R_t,p - r_t) + w (R_t+1,p - r_t+1)
         - (r_t+1 - r_t) / (g(d_t+1) - g(d_t)) ((1 - w) g'(d_t)(D_t,p - d_t)
                                                + w g'(d_t+1)(D_t+1,p - d_t+1)),

of which :mod:`adrpo.evaluation.intervals` gives the interval over seeds, prompts and images. L
itself is taken as given.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from adrpo.evaluation.intervals import (
    Array,
    Estimate,
    complete_prompts,
    mean_over_seeds,
    paired_difference,
)


class Course(NamedTuple):
    """Reward and price of a method at each evaluation, both [seeds, evaluations, prompts]."""

    reward: Array
    price: Array


@dataclass(frozen=True)
class AtEqualPrice:
    """A method and the reference where the price of both is ``level``."""

    level: float
    ours: Estimate
    theirs: Estimate
    difference: Estimate
    """Paired by seed, prompt and noise, ours - theirs."""
    short: tuple[int, int]
    """Seeds of ours and of theirs that never reach the level, and count with their last
    evaluation."""


def common_prompts(
    ours: Course, theirs: Course, categories: list[str]
) -> tuple[Course, Course, list[str]] | None:
    """Both courses on the prompts that have a value of every seed at every evaluation of both, and
    these prompts' categories; None where there is no such prompt."""
    complete = complete_prompts(
        [np.moveaxis(table, 1, 2) for table in (*ours, *theirs)], categories
    )
    if complete is None:
        return None
    reward, price, *others = (np.moveaxis(table, 2, 1) for table in complete[0])
    return Course(reward, price), Course(*others), complete[1]


def spent_by_all(courses: tuple[Course, Course], share: float) -> float:
    """``share`` of the lowest final price of any seed of both: a level that every run reaches."""
    return share * min(float(course.price[:, -1].mean(axis=1).min()) for course in courses)


def at_equal_price(
    ours: Course, theirs: Course, level: float, categories: list[str], *, root: bool
) -> AtEqualPrice:
    """Both rewards where the price of each seed first reaches ``level``, and their difference.

    ``root`` says that the price is a divergence, for which g above is the root. The courses are of
    :func:`common_prompts`.
    """
    own, short = read_off(ours, level, root)
    other, their_short = read_off(theirs, level, root)
    return AtEqualPrice(
        level=level,
        ours=mean_over_seeds(own, categories),
        theirs=mean_over_seeds(other, categories),
        difference=paired_difference(own, other, categories),
        short=(short, their_short),
    )


def read_off(course: Course, level: float, root: bool) -> tuple[Array, int]:
    """Linearised values [seeds, prompts] of the reward at ``level``, and how many seeds never reach
    it."""
    found: list[Array] = []
    short = 0
    for own, paid in zip(course.reward, course.price, strict=True):
        place = first_reached(paid.mean(axis=1), level, root=root)
        if place is None:
            short += 1
            found.append(own[-1])
        else:
            found.append(_linearised(own, paid, *place, root))
    return np.array(found), short


def first_reached(price: Array, level: float, *, root: bool) -> tuple[int, float] | None:
    """(t, w) where ``price`` [evaluations] first reaches ``level``, between t and t + 1; None where
    it never does."""
    if price[0] == level:
        return 0, 0.0
    beyond = (price - level) * np.sign(price[0] - level) <= 0
    if not beyond.any():
        return None
    after = int(beyond.argmax())
    before, end, at = (_scale(value, root) for value in (price[after - 1], price[after], level))
    return after - 1, (at - before) / (end - before)


def _linearised(reward: Array, price: Array, place: int, share: float, root: bool) -> Array:
    """Values [prompts] whose mean is the reward at (``place``, ``share``), as the module tells."""
    if share == 0.0:
        return reward[place]
    mean, paid = reward.mean(axis=1), price.mean(axis=1)
    stretch = _scale(paid[place + 1], root) - _scale(paid[place], root)
    slope = (mean[place + 1] - mean[place]) / stretch
    values = np.zeros_like(reward[place])
    for step, weight in ((place, 1 - share), (place + 1, share)):
        rise = _derivative(paid[step], root)
        values += weight * (reward[step] - slope * rise * (price[step] - paid[step]))
    return values


def _scale(price: float, root: bool) -> float:
    """g: an estimated divergence can fall below 0, where the root has no value."""
    return math.sqrt(max(price, 0.0)) if root else price


def _derivative(price: float, root: bool) -> float:
    """g'; the base's divergence is 0 for every prompt and has no spread to carry over."""
    if not root:
        return 1.0
    return 0.5 / math.sqrt(price) if price > 0 else 0.0

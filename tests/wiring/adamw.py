"""AdamW by its equations, and how far two sets of weights are apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Update:
    """One optimizer step: the gradient before the clip, the weights before and after."""

    gradient: list[Tensor]
    before: list[Tensor]
    after: list[Tensor]


def distance(one: Sequence[Tensor] | Tensor, other: Sequence[Tensor] | Tensor) -> float:
    """|one - other| / |other| over all elements."""
    a, b = (
        side.flatten() if isinstance(side, Tensor) else torch.cat([part.flatten() for part in side])
        for side in (one, other)
    )
    return float((a - b).norm() / b.norm())


def missed(
    updates: Sequence[Update], rates: Sequence[float], *, decay: float = 0.0, bound: float = 1.0
) -> float:
    """How far the weights after ``updates`` are from AdamW's (Loshchilov and Hutter, algorithm 2),
    as a part of what they moved: the gradient within ``bound``, the decay apart from it."""
    values = [value.double() for value in updates[0].before]
    start = [value.clone() for value in values]
    m, v = ([torch.zeros_like(value) for value in values] for _ in range(2))
    for number, (update, rate) in enumerate(zip(updates, rates, strict=True), 1):
        norm = torch.cat([part.flatten() for part in update.gradient]).double().norm()
        share = min(1.0, bound / (float(norm) + 1e-6))
        for place, part in enumerate(update.gradient):
            gradient = share * part.double()
            m[place] = 0.9 * m[place] + 0.1 * gradient
            v[place] = 0.999 * v[place] + 0.001 * gradient**2
            values[place] *= 1 - rate * decay
            first, second = m[place] / (1 - 0.9**number), v[place] / (1 - 0.999**number)
            values[place] -= rate * first / (second.sqrt() + 1e-8)
    moves = [after.double() - old for after, old in zip(updates[-1].after, start, strict=True)]
    return distance(moves, [new - old for new, old in zip(values, start, strict=True)])

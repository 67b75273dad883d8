"""The beginning of a step's samples: prompts and noise."""

from collections.abc import Sequence

import torch
from torch import Tensor

from adrpo.runs.seeding import generator


def prompt_order(step: int, *, prompts: int, per_step: int, seed: int) -> list[int]:
    """Indices of the prompts of ``step`` (from 1): every prompt once an epoch, in a new order.

    A function of its arguments alone, so a resumed run needs no state for it.
    """
    chosen = []
    for position in range((step - 1) * per_step, step * per_step):
        epoch, place = divmod(position, prompts)
        order = torch.randperm(prompts, generator=generator(seed, "prompts", epoch))
        chosen.append(int(order[place]))
    return chosen


def initial_noise(count: int, shape: Sequence[int], seed: int, *stream: str | int) -> Tensor:
    """x_0 ~ N(0, 1) [count, *shape] of a named stream, drawn on the CPU, whatever the device."""
    return torch.randn((count, *shape), generator=generator(seed, *stream))

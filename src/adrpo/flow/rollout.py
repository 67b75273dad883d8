"""A step's samples: prompts, noise, images."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from adrpo.runs.seeding import generator


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The online samples of one step, group after group.

    ``prompt_index`` [batch] points into the training prompts, ``group_ids`` [batch] tells the
    groups apart (equal prompts in two groups stay apart), ``x_1`` [batch, *latent_shape].
    """

    prompt_index: Tensor
    group_ids: Tensor
    x_1: Tensor
    images: list[Image.Image]


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

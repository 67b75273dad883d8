"""The beginning of a step's samples: prompts and noise."""

from collections.abc import Hashable, Iterator, Sequence
from itertools import count

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


class PromptOrder:
    """The prompts of each step, where those of a step must be alike, as images of one size are.

    The prompts come in the order of ``prompt_order``: every prompt once an epoch, in a new order.
    Each waits with those like it, and a step takes ``per_step`` of them as soon as they are there,
    in the order in which they came. So all prompts have their turn equally often, the last in an
    epoch only in the next one; and if all are alike a step's are those of ``prompt_order``. A
    function of its arguments alone.

    Args:
        alike: a mark of each prompt, equal for those that a step may have together.
        per_step: prompts of a step.
        seed: of the orders of the epochs.
    """

    def __init__(self, alike: Sequence[Hashable], *, per_step: int, seed: int) -> None:
        self._steps: list[list[int]] = []
        self._later = self._drawn(alike, per_step, seed)

    def of(self, step: int) -> list[int]:
        """Indices of the prompts of ``step`` (from 1)."""
        while len(self._steps) < step:
            self._steps.append(next(self._later))
        return list(self._steps[step - 1])

    @staticmethod
    def _drawn(alike: Sequence[Hashable], per_step: int, seed: int) -> Iterator[list[int]]:
        waiting: dict[Hashable, list[int]] = {}
        for epoch in count():
            for place in torch.randperm(
                len(alike), generator=generator(seed, "prompts", epoch)
            ).tolist():
                together = waiting.setdefault(alike[place], [])
                together.append(place)
                if len(together) == per_step:
                    yield waiting.pop(alike[place])


def initial_noise(count: int, shape: Sequence[int], seed: int, *stream: str | int) -> Tensor:
    """x_0 ~ N(0, 1) [count, *shape] of a named stream, drawn on the CPU, whatever the device."""
    return torch.randn((count, *shape), generator=generator(seed, *stream))

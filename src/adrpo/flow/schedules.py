"""Learning-rate schedules: factors of ``training.learning_rate`` over the steps of a run."""

import math
from collections.abc import Callable

Schedule = Callable[[float], float]
"""Share of the steps after the warm-up that are done, in [0, 1] -> factor."""

SCHEDULES: dict[str, Schedule] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1.0 - done,
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
}


def learning_rate_factor(name: str, *, warmup_steps: int, steps: int) -> Callable[[int], float]:
    """Factor of each update, counted from 0: a linear rise over ``warmup_steps``, then ``name``.

    The rise ends at 1 with update ``warmup_steps`` - 1. The schedules that fall would reach 0 one
    update after the last, so that no update is lost.
    """
    schedule = SCHEDULES[name]

    def factor(update: int) -> float:
        if update < warmup_steps:
            return (update + 1) / warmup_steps
        return schedule(min(1.0, (update - warmup_steps) / max(1, steps - warmup_steps)))

    return factor

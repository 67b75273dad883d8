"""Learning-rate schedules against the ones of diffusers."""

import pytest
import torch
from diffusers.optimization import get_scheduler

from adrpo.flow.schedules import SCHEDULES, learning_rate_factor

NAMES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}


def diffusers_rates(name: str, *, warmup_steps: int, steps: int) -> list[float]:
    """Rates of diffusers' own schedule, whose warm-up starts at 0."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_scheduler(
        NAMES[name], optimizer, num_warmup_steps=warmup_steps, num_training_steps=steps
    )
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup_steps", [0, 4])
def test_the_schedule_is_that_of_diffusers_after_the_warm_up(name: str, warmup_steps: int):
    factor = learning_rate_factor(name, warmup_steps=warmup_steps, steps=20)
    expected = diffusers_rates(name, warmup_steps=warmup_steps, steps=20)
    ours = [factor(update) for update in range(20)]
    assert ours[warmup_steps:] == pytest.approx(expected[warmup_steps:])
    # One update ahead of diffusers in the warm-up, whose first update would change nothing.
    assert ours[:warmup_steps] == pytest.approx([(n + 1) / 4 for n in range(warmup_steps)])
    assert all(rate > 0 for rate in ours)

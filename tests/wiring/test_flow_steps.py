"""Every key of the domain flow that a step shows, changed once (wiring/flow_steps.py)."""

import pytest

from wiring.flow_steps import STEPS, draws_anew_at_every_step, has_own_prompts, unchanged
from wiring.table import Seen

HERE = {key: row for key, row in STEPS.items() if isinstance(row, Seen)}


@pytest.mark.parametrize("key", HERE)
def test_a_step_follows_the_key(key: str) -> None:
    HERE[key].effect(HERE[key].value)


def test_a_step_without_a_change_draws_anew_and_keeps_to_its_prompts() -> None:
    watched, made = unchanged()
    draws_anew_at_every_step(made)
    for step in made:
        has_own_prompts(watched, step)

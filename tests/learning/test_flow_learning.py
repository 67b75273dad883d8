"""The tiny model gets better at its task, and the divergence penalty is felt."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from adrpo.flow.training.adrpo import FlowTrainer
from support.tiny_runs import embedded_config

STEPS, HALFWAY = 16, 8


def brightness(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
    """Lightness of the ground, which no caption fixes; its spread within a prompt is about 2."""
    return [float(np.median(np.asarray(image))) / 2 for image in images]


def trainer_of(beta_0: float) -> FlowTrainer:
    config = embedded_config(
        prompts={"train_size": 4, "held_out_size": 4},
        training={
            "prompts_per_step": 4,
            "samples_per_prompt": 8,
            "micro_batch_size": 32,
            "learning_rate": 2e-3,
        },
        sampling={"steps": 4},
        evaluation={"samples_per_prompt": 12, "sampling": {"steps": 4}},
        algorithm={"beta_0": beta_0},
    )
    return FlowTrainer(config, reward=brightness)


class Outcome:
    """Values [prompts, images] from the same noises before, halfway and after training."""

    def __init__(self) -> None:
        trainer = trainer_of(beta_0=1.0)
        self.before = trainer.evaluator.measure().values
        self.rows = [trainer.step(step) for step in range(1, HALFWAY + 1)]
        self.halfway = trainer.evaluator.measure().values
        self.rows += [trainer.step(step) for step in range(HALFWAY + 1, STEPS + 1)]
        self.after = trainer.evaluator.measure().values


@pytest.fixture(scope="module")
def adrpo() -> Outcome:
    return Outcome()


def test_the_reward_rises_on_unseen_prompts(adrpo: Outcome):
    before, after = adrpo.before["brightness"], adrpo.after["brightness"]
    spread = before.std(axis=1).mean()
    # The bounded tilt (fact 4 of docs/method/equations.md) allows about 0.7 standard deviations; a
    # third of one is far outside the noise of 48 pairs that share their noise.
    assert (after - before).mean() > 0.33 * spread


def test_the_policy_leaves_the_reference_and_stays_near(adrpo: Outcome):
    # v and v_ref are the same function at first, evaluated on batches of other sizes.
    assert adrpo.rows[0]["divergence"] < 1e-9
    # |u_t|^2 is about 2; a policy that diverged would be of that size.
    assert 0 < adrpo.rows[-1]["divergence"] < 0.2
    assert adrpo.after["divergence"].mean() > 0


def test_a_stronger_penalty_keeps_the_policy_nearer(adrpo: Outcome):
    strong = trainer_of(beta_0=8.0)
    for step in range(1, HALFWAY + 1):
        strong.step(step)
    # A seventh of it from the sixth step on.
    divergence = strong.evaluator.measure().values["divergence"]
    assert divergence.mean() < 0.5 * adrpo.halfway["divergence"].mean()

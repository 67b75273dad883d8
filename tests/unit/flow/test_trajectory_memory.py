"""The estimate of what a step's trajectories take, against the tensors that the trainers keep."""

from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch import Tensor

from adrpo.config import load_flow_config
from adrpo.flow.domain import build_trainer
from adrpo.flow.memory.architectures import PUBLISHED, find_architecture
from adrpo.flow.memory.estimate import estimate, trajectory_bytes

SETTINGS = (
    "training.prompts_per_step=2", "training.samples_per_prompt=4", "sampling.steps=5",
    "training.micro_batch_size=4", "prompts.train_size=6", "prompts.held_out_size=2",
    "evaluation.clip=embedded-evaluation", "model.device=cpu",
)  # fmt: skip


@pytest.mark.parametrize("method", ["flow-grpo", "fdfo"])
def test_a_step_keeps_and_joins_as_many_bytes_as_estimated(
    method: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "benchmarks")
    from counted_memory import LiveBytes

    config = load_flow_config(f"flow/{method}", list(SETTINGS))
    trainer = build_trainer(config)
    # The network's own memory is another part of the estimate.
    monkeypatch.setattr(trainer, "velocity", lambda prompt, x, t: torch.zeros_like(x))
    monkeypatch.setattr(trainer.policy, "decode", lambda latents: [])
    with LiveBytes() as memory:
        taken = memory.added(lambda: trainer._sample(1, torch.zeros(8, dtype=torch.long)))
        found = trainer._sample(1, torch.zeros(8, dtype=torch.long))[0]
    values = (getattr(found, field.name) for field in fields(found))
    latents = tuple(trainer.policy.latent_shape)
    kept = sum(
        value.nbytes
        for value in values
        if isinstance(value, Tensor) and tuple(value.shape[1:]) == latents
    )
    architecture = find_architecture("embedded")
    assert architecture is not None
    expected, joining = trajectory_bytes(architecture, config)
    assert kept == expected
    # Times, indices and probabilities are a hundredth beside latents of 16 x 16 x 4; the start
    # noise and the draws of a step, on the CPU and so not in the estimate, are two of its parts.
    drawn = (config.sampling.steps + 1) * kept / (2 * config.sampling.steps)
    assert expected + joining <= taken * 1.02
    assert taken <= 1.02 * (expected + joining + drawn)
    parts = estimate(architecture, config)
    assert parts.resident["trajectories"] == expected
    assert parts.working["joining trajectories"] == joining


def test_other_methods_keep_no_trajectory():
    config = load_flow_config("flow/sd3-medium-adrpo")
    sizes = PUBLISHED["stabilityai/stable-diffusion-3-medium-diffusers"]
    assert trajectory_bytes(sizes, config) == (0, 0)


def test_flow_grpo_on_sd3_keeps_both_ends_of_its_noisy_steps():
    """512 pixels are 64 x 64 x 16 latents of 4 bytes."""
    config = load_flow_config("flow/flow-grpo", ["model.height=512", "model.width=512"])
    sizes = PUBLISHED["stabilityai/stable-diffusion-3-medium-diffusers"]
    samples = config.training.prompts_per_step * config.training.samples_per_prompt
    one = 64 * 64 * 16 * 4 * samples
    assert trajectory_bytes(sizes, config)[0] == 2 * (config.sampling.steps - 1) * one

"""What a GPU computes is what the CPU computes: ``make test-gpu``, on a machine with one.

``ADRPO_TEST_DEVICE`` names another device, ``cpu`` to rehearse.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from adrpo.config import AdapterSection, FlowModelSection, SamplingSection
from adrpo.flow.domain import build_trainer
from adrpo.flow.models.loading import load_policy
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from support.tiny_runs import metrics_without_timings, tiny_config

DEVICE = os.environ.get("ADRPO_TEST_DEVICE", "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        DEVICE == "cuda" and not torch.cuda.is_available(), reason="needs a CUDA device"
    ),
]
PROMPTS = ["a red circle", "two blue squares"]


@pytest.fixture(autouse=True)
def without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions of a GPU round to ten bits unless they are told not to."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def policies(**model: Any) -> tuple[PipelinePolicy, PipelinePolicy]:
    """The embedded model on the CPU and on the device, with one adapter that does something."""
    on_cpu, on_device = (
        load_policy(FlowModelSection(device=device, **model)) for device in ("cpu", DEVICE)
    )
    for policy in (on_cpu, on_device):
        policy.add_adapter(AdapterSection(rank=4))
    generator = torch.Generator().manual_seed(0)
    state = {
        name: value + 0.02 * torch.randn(value.shape, generator=generator)
        for name, value in on_cpu.adapter_state().items()
    }
    for policy in (on_cpu, on_device):
        policy.load_adapter_state(state)
    return on_cpu, on_device


def noise(policy: PipelinePolicy) -> Tensor:
    shape = (len(PROMPTS), *policy.latent_shape)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def velocity_and_gradient(policy: PipelinePolicy) -> list[Tensor]:
    v = policy.velocity(
        noise(policy).to(policy.device),
        torch.tensor([0.2, 0.7], device=policy.device),
        policy.encode(PROMPTS),
    )
    v.square().mean().backward()
    gradients = [p.grad.flatten() for p in policy.adapter_parameters() if p.grad is not None]
    return [tensor.detach().cpu() for tensor in (v, torch.cat(gradients))]


# float32 sums in another order: 1e-7 of each of some hundred terms, through five blocks. bfloat16
# differs from float32 by 0.01 here, and two devices by no more than the sum of such errors.
@pytest.mark.parametrize(("dtype", "limit"), [("float32", 1e-4), ("bfloat16", 0.03)])
def test_velocities_and_gradients_are_those_of_the_cpu(dtype: str, limit: float):
    for ours, theirs in zip(
        *map(velocity_and_gradient, reversed(policies(dtype=dtype))), strict=True
    ):
        assert theirs.norm() > 0
        assert (ours - theirs).norm() < limit * theirs.norm()


def test_samples_are_those_of_the_cpu():
    on_cpu, on_device = policies()
    sampling = SamplingSection(steps=4, guidance_scale=1.5)
    ours, theirs = (
        policy.sample(noise(policy), policy.encode(PROMPTS), sampling).cpu()
        for policy in (on_device, on_cpu)
    )
    assert (ours - theirs).norm() < 1e-4 * theirs.norm()  # as above


def test_a_run_goes_on_where_it_stopped(tmp_path: Path):
    """With the noise, prompts and optimizer of a run that did not stop."""

    def trained(folder: str, steps: int, *, resume: bool = False) -> list[dict[str, Any]]:
        config = tiny_config(model={"device": DEVICE}, training={"steps": steps})
        run = build_trainer(config).train(tmp_path / folder, resume=resume, progress=False)
        return metrics_without_timings(run)

    whole = trained("whole", 4)
    trained("stopped", 2)
    for row, expected in zip(trained("stopped", 4, resume=True), whole, strict=True):
        assert row.keys() == expected.keys()
        for name, value in expected.items():
            # A GPU may add up in another order each time, and a pixel jump by one level; that moves
            # the columns that are made of rewards, which may be near 0.
            of_rewards = name.startswith(("reward_", "advantage", "weight", "beta", "loss"))
            near = pytest.approx(value, rel=2e-2, abs=2e-3 if of_rewards else 1e-8)
            assert row[name] == near, (row["step"], name)

"""A float16 network trains its adapter with the gradients that it has in other types."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from adrpo.config import AdapterSection, FlowModelSection
from adrpo.config.fields import Dtype
from adrpo.core import velocity_divergence
from adrpo.flow.models.loading import load_policy
from adrpo.flow.models.loss_scale import loss_scale
from adrpo.flow.models.pipeline_policy import PipelinePolicy

PROMPTS = ["a red circle", "a blue square"]
ROWS = 512
"""Rows of the step, of which this test has two."""


def policy_of(dtype: Dtype) -> PipelinePolicy:
    policy = load_policy(FlowModelSection(dtype=dtype, device="cpu"))
    torch.manual_seed(0)
    policy.add_adapter(AdapterSection(rank=4))
    return policy


def gradients(policy: PipelinePolicy, share: float = 1 / ROWS) -> Tensor:
    """Of all lora_B, after a pass of the reference, which switches the adapter off and on."""
    draws = torch.Generator().manual_seed(1)
    x_t, u_t = torch.randn((2, 2, *policy.latent_shape), generator=draws)
    t, conditioning = torch.tensor([0.3, 0.7]), policy.encode(PROMPTS)
    with torch.no_grad(), policy.reference():
        policy.velocity(x_t, t, conditioning)
    v = policy.velocity(x_t, t, conditioning)
    (velocity_divergence(v, u_t).sum() * share).backward()
    values = [own.grad for own in policy.adapter_parameters() if own.shape[1] == 4]
    found = torch.cat([value.flatten() for value in values if value is not None])
    policy.pipeline.transformer.zero_grad()
    return found


def zeros(values: Tensor) -> float:
    return float((values == 0).float().mean())


@pytest.mark.parametrize("share", [1 / ROWS, 1 / (64 * ROWS)])
def test_gradients_in_float16_are_those_of_float32(share: float) -> None:
    """Of a loss that is a mean over a step's rows, as large ones and more path points make it."""
    expected = gradients(policy_of("float32"), share)
    found = gradients(policy_of("float16"), share)
    assert zeros(found) <= zeros(expected) + 0.001
    # 11 bits, and some ten layers of them; bfloat16 has 8.
    assert (found - expected).norm() < 0.01 * expected.norm()


def test_an_adapter_that_is_loaded_has_the_same_gradients(tmp_path: Path) -> None:
    policy = policy_of("float16")
    policy.save_adapter(tmp_path)
    loaded = load_policy(FlowModelSection(dtype="float16", device="cpu"))
    loaded.load_adapter(tmp_path)
    # The file's lora_B has the strength of alpha / rank, a power of two, in its values.
    strength = AdapterSection().alpha / 4
    assert strength == 4
    assert torch.equal(gradients(loaded) * strength, gradients(policy))


def test_the_scale_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another power of two gives the same digits, but for those near the ends of float16."""
    monkeypatch.setattr("adrpo.flow.models.pipeline_policy.loss_scale", lambda _: 2.0**18)
    one = gradients(policy_of("float16"))
    monkeypatch.setattr("adrpo.flow.models.pipeline_policy.loss_scale", lambda _: 2.0**20)
    other = gradients(policy_of("float16"))
    assert (one - other).norm() < 1e-3 * other.norm()


@pytest.mark.parametrize("elements", [1, 255, 256, 262_144])
def test_the_scale_is_a_power_of_two_of_the_size_of_a_mean(elements: int) -> None:
    scale = loss_scale(elements)
    assert math.frexp(scale)[0] == 0.5
    assert 1 <= scale / (64 * elements) < 2

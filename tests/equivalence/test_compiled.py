"""A compiled transformer is the transformer: adapter on and off, values and gradients."""

import pytest
import torch
from torch import Tensor

from adrpo.config import AdapterSection, FlowModelSection
from adrpo.errors import AdrpoError
from adrpo.flow.models.loading import as_policy, compile_transformer, load_policy
from support.tiny_pipelines import stable_diffusion_3
from support.tiny_runs import perturb

# torch's own, where it loads its compiler.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

PROMPTS = ["a cat", "two blue birds on a wire", "a dog"]


def answers(*, compiled: bool) -> dict[str, Tensor]:
    # One block: compiling takes a minute as it is.
    pipeline = stable_diffusion_3(with_t5=False, layers=1)
    policy = as_policy(pipeline, max_sequence_length=1, height=16, width=24)
    if compiled:
        compile_transformer(policy.pipeline.transformer, torch.device("cpu"))
    policy.add_adapter(AdapterSection(rank=2, alpha=2.0))
    perturb(policy)  # type: ignore[arg-type]
    conditioning = policy.encode(PROMPTS)
    x_t = torch.randn((3, *policy.latent_shape), generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.2, 0.7, 0.9])
    found = {}
    with torch.inference_mode():
        with policy.reference():
            found["reference"] = policy.velocity(x_t, t, conditioning)
    v = policy.velocity(x_t, t, conditioning)
    v.square().mean().backward()
    found["policy"] = v.detach()
    for place, parameter in enumerate(policy.adapter_parameters()):
        assert parameter.grad is not None
        found[f"gradient {place}"] = parameter.grad
    return found


@pytest.mark.slow  # a minute of compiling
def test_values_and_gradients_are_those_of_the_module():
    torch.compiler.reset()
    plain, compiled = answers(compiled=False), answers(compiled=True)
    from torch._dynamo.utils import counters

    assert counters["stats"]["unique_graphs"] > 0, "nothing was compiled"
    assert (plain["policy"] - plain["reference"]).abs().max() > 1e-3
    for name, expected in plain.items():
        # Fused float32 kernels round in another order; velocities are of order 1.
        torch.testing.assert_close(compiled[name], expected, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("value", [False, True])
def test_the_configuration_compiles(value: bool):
    policy = load_policy(FlowModelSection.model_validate({"compile": value, "device": "cpu"}))
    assert (policy.pipeline.transformer._compiled_call_impl is not None) == value


def test_without_a_compiler_nothing_begins(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(AdrpoError, match=r"model\.compile: expected a C\+\+ .* no-such-compiler"):
        load_policy(FlowModelSection.model_validate({"compile": True, "device": "cpu"}))

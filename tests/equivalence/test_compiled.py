"""A compiled transformer is the transformer: adapter on and off, values and gradients."""

import pytest
import torch
from tiny_pipelines import FAMILIES
from tiny_runs import perturb
from torch import Tensor

from adrpo.config import AdapterConfig, ModelConfig
from adrpo.errors import AdrpoError
from adrpo.flow.loading import compile_transformer, load_policy

PROMPTS = ["a cat", "two blue birds on a wire", "a dog"]


def answers(*, compiled: bool) -> dict[str, Tensor]:
    policy = FAMILIES["sd3"].policy()
    if compiled:
        compile_transformer(policy.pipeline.transformer, torch.device("cpu"))
    policy.add_adapter(AdapterConfig(rank=2, alpha=2.0))
    perturb(policy)  # type: ignore[arg-type]
    conditioning = policy.encode(PROMPTS)
    x_t = torch.randn((3, *policy.latent_shape), generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.2, 0.7, 0.9])
    found = {}
    with torch.inference_mode():
        found["policy"] = policy.velocity(x_t, t, conditioning)
        with policy.reference():
            found["reference"] = policy.velocity(x_t, t, conditioning)
        # Another batch size.
        found["fewer"] = policy.velocity(x_t[:2], t[:2], conditioning.select(torch.arange(2)))
    policy.velocity(x_t, t, conditioning).square().mean().backward()
    for place, parameter in enumerate(policy.adapter_parameters()):
        assert parameter.grad is not None
        found[f"gradient {place}"] = parameter.grad
    return found


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own, in its compiler
def test_values_and_gradients_are_those_of_the_module():
    torch.compiler.reset()
    plain, compiled = answers(compiled=False), answers(compiled=True)
    from torch._dynamo.utils import counters

    assert counters["stats"]["unique_graphs"] > 0, "nothing was compiled"
    assert (plain["policy"] - plain["reference"]).abs().max() > 1e-3
    for name, expected in plain.items():
        # Fused float32 kernels round in another order; velocities are of order 1.
        torch.testing.assert_close(compiled[name], expected, rtol=1e-4, atol=1e-5, msg=name)


def test_without_a_compiler_nothing_begins(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(AdrpoError, match=r"model\.compile: expected a C\+\+ .* no-such-compiler"):
        load_policy(ModelConfig.model_validate({"compile": True, "device": "cpu"}))

"""What a test starts once for each of two processes, with an engine and families: compares each
family's policy with one whose base is sharded, and prints a line of JSON for each."""

import json
import sys

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from adrpo.config import AdapterSection, SamplingSection
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.models.sharding import ZERO_3
from adrpo.runs.processes import Engine, end_process
from support.tiny_pipelines import FAMILIES
from support.tiny_runs import perturb

PROMPTS = ["a cat", "two blue birds on a wire"]


def adapted(name: str, engine: Engine | None) -> PipelinePolicy:
    policy = FAMILIES[name].policy()
    if engine is not None:
        policy.shard(engine)
    torch.manual_seed(0)
    policy.add_adapter(AdapterSection(rank=2, alpha=2.0))
    perturb(policy)  # type: ignore[arg-type]
    return policy


def inputs(policy: PipelinePolicy) -> tuple[Tensor, Tensor, Conditioning]:
    """Of a velocity: points, times and prompts; each process has points of its own."""
    generator = torch.Generator().manual_seed(torch.distributed.get_rank())
    x_t = torch.randn((len(PROMPTS), *policy.latent_shape), generator=generator)
    return x_t, torch.tensor([0.2, 0.7]), policy.encode(PROMPTS)


def draw(policy: PipelinePolicy) -> dict[str, Tensor]:
    """Samples, and velocities with the adapter off."""
    x_t, t, conditioning = inputs(policy)
    found = {"sample": policy.sample(x_t, conditioning, SamplingSection(steps=2))}
    with torch.no_grad(), policy.reference():
        found["reference"] = policy.velocity(x_t, t, conditioning)
    return found


def learn(policy: PipelinePolicy) -> dict[str, Tensor]:
    """Velocities and gradients; after sampling, whose gathered weights autograd must be able to
    keep."""
    x_t, t, conditioning = inputs(policy)
    policy.pipeline.transformer.enable_gradient_checkpointing()
    v = policy.velocity(x_t, t, conditioning)
    v.square().mean().backward()
    found = {"policy": v.detach()}
    for place, parameter in enumerate(policy.adapter_parameters()):
        if parameter.grad is not None:
            found[f"gradient {place}"] = parameter.grad
    return found


def kept(policy: PipelinePolicy) -> tuple[int, int]:
    """Numbers that this process holds of the frozen transformer, and of the adapter."""
    frozen = [p for p in policy.pipeline.transformer.parameters() if not p.requires_grad]
    held = sum(own_part(p).numel() for p in frozen)
    return held, sum(p.numel() for p in policy.adapter_parameters())


def own_part(parameter: Tensor) -> Tensor:
    """What this process holds of ``parameter``."""
    if isinstance(parameter, DTensor):
        return parameter.to_local()
    if hasattr(parameter, "ds_tensor"):  # ZeRO-3's; ``parameter`` itself is empty between two calls
        return torch.cat([parameter.flatten(), parameter.ds_tensor])
    return parameter


def differences(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """The greatest of each, against the greatest value; KeyError where only one has it."""
    return {
        key: 0.0
        if torch.equal(found[key], expected[key])
        else float((found[key] - expected[key]).abs().max() / expected[key].abs().max())
        for key in found.keys() | expected.keys()
    }


def main(engine: Engine, *names: str) -> None:
    torch.distributed.init_process_group("gloo")
    # Parameters as small as all of these would stay whole.
    ZERO_3["zero_optimization"]["stage3_param_persistence_threshold"] = 0
    # Before an engine is there, which may change what all modules call.
    wholes = [adapted(name, None) for name in names]
    expected = [(draw(whole), kept(whole), learn(whole)) for whole in wholes]
    for name, (drawn, held, learnt) in zip(names, expected, strict=True):
        sharded = adapted(name, engine)
        found = draw(sharded)
        line = {"name": name, "whole": held, "sharded": kept(sharded)}
        line["differences"] = differences(found | learn(sharded), drawn | learnt)
        print(json.dumps(line), flush=True)
    torch.distributed.destroy_process_group()
    end_process(0)


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]

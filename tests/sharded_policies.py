"""What a test starts once for each of two processes: compares each family's policy with one whose
base is sharded, and prints a line of JSON for each."""

import json
import sys

import torch
from tiny_pipelines import FAMILIES
from tiny_runs import perturb
from torch import Tensor
from torch.distributed.tensor import DTensor

from adrpo.config import AdapterConfig, SamplingConfig
from adrpo.flow.pipeline_policy import PipelinePolicy

PROMPTS = ["a cat", "two blue birds on a wire"]


def adapted(name: str) -> PipelinePolicy:
    policy = FAMILIES[name].policy()
    torch.manual_seed(0)
    policy.add_adapter(AdapterConfig(rank=2, alpha=2.0))
    perturb(policy)  # type: ignore[arg-type]
    return policy


def answers(policy: PipelinePolicy) -> dict[str, Tensor]:
    """Samples, velocities with the adapter on and off, and gradients, of this process's own noise;
    sampling before training, whose gathered weights autograd must be able to keep."""
    conditioning = policy.encode(PROMPTS)
    generator = torch.Generator().manual_seed(torch.distributed.get_rank())
    x_t = torch.randn((len(PROMPTS), *policy.latent_shape), generator=generator)
    t = torch.tensor([0.2, 0.7])
    found = {"sample": policy.sample(x_t, conditioning, SamplingConfig(steps=2))}
    with torch.no_grad(), policy.reference():
        found["reference"] = policy.velocity(x_t, t, conditioning)
    policy.pipeline.transformer.enable_gradient_checkpointing()
    v = policy.velocity(x_t, t, conditioning)
    v.square().mean().backward()
    found["policy"] = v.detach()
    for place, parameter in enumerate(policy.adapter_parameters()):
        if parameter.grad is not None:
            found[f"gradient {place}"] = parameter.grad
    return found


def kept(policy: PipelinePolicy) -> tuple[int, int]:
    """Numbers that this process holds of the frozen transformer, and of the adapter."""
    frozen = [p for p in policy.pipeline.transformer.parameters() if not p.requires_grad]
    local = [p.to_local() if isinstance(p, DTensor) else p for p in frozen]
    return sum(p.numel() for p in local), sum(p.numel() for p in policy.adapter_parameters())


if __name__ == "__main__":
    torch.distributed.init_process_group("gloo")
    for name in sys.argv[1:]:
        whole, sharded = adapted(name), adapted(name)
        sharded.shard()
        expected, found = answers(whole), answers(sharded)
        same = {key: torch.equal(found[key], value) for key, value in expected.items()}
        line = {"name": name, "same": same, "whole": kept(whole), "sharded": kept(sharded)}
        print(json.dumps(line), flush=True)
    torch.distributed.destroy_process_group()

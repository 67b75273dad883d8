"""A run on a GPU makes only calls that CUDA takes, and the CPU's numbers: on a CPU that behaves
like a GPU (tools/pretend_cuda.py)."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from adrpo.config import AdapterSection, FlowConfig, SamplingSection
from adrpo.flow.domain import build_trainer
from adrpo.runs.directory import RunDirectory
from support.tiny_pipelines import FAMILIES
from support.tiny_runs import darkness, metrics_without_timings, tiny_config
from tools.pretend_cuda import PretendCuda

# One of each trainer and of each way in which a method reads more of a step.
METHODS: dict[str, dict[str, Any]] = {
    "adrpo": {"anchor": "ema"},
    "crd": {},
    "dgpo": {},
    "diffusion_nft": {},
    "dpo": {"pairs_prompts": 4, "pairs_samples": 2},
    "fdfo": {},
    "flow_grpo": {},
}


def config_of(method: str, device: str, steps: int = 1) -> FlowConfig:
    return tiny_config(
        model={"device": device},
        algorithm={"method": method, **METHODS[method]},
        sampling={"steps": 3},
        training={"steps": steps, "samples_per_prompt": 4, "micro_batch_size": 3, "ema_decay": 0.9},
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_step_on_a_gpu_is_that_on_the_cpu(method: str, tmp_path: Path):
    def stepped(device: str) -> list[dict[str, Any]]:
        trainer = build_trainer(config_of(method, device), reward=darkness)
        run = RunDirectory.create(tmp_path / device, "domain: flow\n")
        trainer.prepare(run)
        run.append_metrics(trainer.step(1))
        return metrics_without_timings(run.path)

    expected = stepped("cpu")
    with PretendCuda():
        assert stepped("cuda") == expected


def test_a_run_on_a_gpu_is_that_on_the_cpu(tmp_path: Path):
    """With its trial, evaluations, the reward that is a model, and checkpoints that it goes on
    from."""

    def trained(device: str) -> tuple[list[Any], list[Any]]:
        folder = tmp_path / device
        run = build_trainer(config_of("adrpo", device)).train(folder, progress=False)
        longer = build_trainer(config_of("adrpo", device, steps=2))
        longer.train(folder, resume=True, progress=False)
        lines = (run / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()
        evaluations = [
            {name: value for name, value in json.loads(line).items() if "seconds" not in name}
            for line in lines
        ]
        return metrics_without_timings(run), evaluations

    expected = trained("cpu")
    with PretendCuda() as gpu:
        assert trained("cuda") == expected
    assert gpu.waits


@pytest.mark.parametrize("name", list(FAMILIES))
def test_each_family_draws_and_learns_on_a_gpu(name: str):
    def numbers(device: str) -> list[Tensor]:
        torch.manual_seed(0)
        policy = FAMILIES[name].policy()
        policy.pipeline.to(device)
        policy = type(policy)(
            policy.pipeline,
            max_sequence_length=FAMILIES[name].tokens,
            height=policy.height,
            width=policy.width,
        )
        policy.add_adapter(AdapterSection(rank=2))
        conditioning = policy.encode(["a cat", "a dog"])
        x_0 = torch.randn(2, *policy.latent_shape, generator=torch.Generator().manual_seed(1))
        x_1 = policy.sample(x_0, conditioning, SamplingSection(steps=2, guidance_scale=2.0))
        policy.decode(x_1)
        t = torch.tensor([0.2, 0.7], device=policy.device)
        v = policy.velocity(x_0.to(policy.device), t, conditioning)
        v.square().mean().backward()
        gradients = [p.grad for p in policy.adapter_parameters() if p.grad is not None]
        assert v.device.type == x_1.device.type == gradients[0].device.type == device
        return [tensor.detach().cpu() for tensor in (x_1, v, *gradients)]

    expected = numbers("cpu")
    with PretendCuda():
        found = numbers("cuda")
    assert all(map(torch.equal, found, expected)) and len(found) == len(expected)

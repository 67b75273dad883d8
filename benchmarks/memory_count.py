"""The memory of published models by torch's own count, beside doctor's estimate.

``python benchmarks/memory_count.py [RECIPE ...] [--output benchmarks/results/memory_count]
[--set key=value]``

The transformer, autoencoder and adapter of each recipe at full size, and the calls of a training
with them: an update as Algorithm 1 makes it (reference, velocity, backward pass, optimizer), a step
of sampling, a decoding. The tensors are torch's fake ones, which have sizes and no values: every
operation is dispatched, none is computed, so that neither weights nor a GPU are needed. Counted are
the bytes of all storages that are alive after each operation, and the greatest sum. What that is
not: memory that a kernel takes inside, the CUDA context, and what its allocator can't use
(``OVERHEAD`` in adrpo/memory.py stands for them).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import random_weights
import torch
from counted_memory import LiveBytes, staying, to_markdown, write_results
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from adrpo.config import FlowConfig, load_flow_config
from adrpo.core import flow_objective
from adrpo.data import Prompt
from adrpo.errors import AdrpoError
from adrpo.flow.memory.architectures import Architecture, find_architecture
from adrpo.flow.memory.estimate import (
    estimate,
    images_at_a_time,
    most_guided,
    rows_at_a_time,
)
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.training.optimizers import build_optimizer

RECIPES = (
    "flow/sd3-medium-adrpo",
    "flow/sd3-medium-dpo",
    "flow/sd35-medium-adrpo",
    "flow/flux-dev-adrpo",
    "flow/flux2-klein-adrpo",
    "flow/wan-2.1-adrpo",
)


def fake_policy(
    architecture: Architecture, config: FlowConfig, mode: FakeTensorMode, rows: int
) -> tuple[PipelinePolicy, Conditioning]:
    """A policy whose parts are fake, with its adapter, and the conditioning of ``rows`` prompts."""
    real_parts = random_weights.random_parts

    def fake_parts(*sizes: Any, **form: Any) -> Any:
        with mode:
            return real_parts(*sizes, **form)

    prompts = {"rows": [Prompt("a prompt")] * rows}
    with mock.patch.object(random_weights, "random_parts", fake_parts):
        policy, sets = random_weights.random_policy(architecture, config.model, prompts)
    encoded = sets["rows"].conditioning
    with mode, staying():
        policy.add_adapter(config.adapter)
        parts = {name: mode.from_tensor(part) for name, part in vars(encoded).items()}
    return policy, Conditioning(**parts)


def count(config: FlowConfig, architecture: Architecture) -> dict[str, int]:
    """Bytes of each part of doctor's estimate that a model's own calls need.

    Weights in ``model.dtype``, and no averages of the adapter: other recipes are refused.
    """
    anchored = getattr(config.algorithm, "anchor", "base") == "ema"
    if config.model.quantization or config.training.ema_decay is not None or anchored:
        raise AdrpoError("expected a recipe without quantization, anchor: ema and ema_decay")
    rows, images = rows_at_a_time(config), images_at_a_time(config)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    policy, conditioning = fake_policy(architecture, config, mode, max(rows, images))
    transformer, vae = policy.pipeline.transformer, policy.pipeline.vae
    trained = policy.adapter_parameters()
    adapter = sum(parameter.nbytes for parameter in trained)
    with mode, LiveBytes() as memory:
        optimizer = build_optimizer(trained, config.training)
        for tensor in (*transformer.parameters(), *transformer.buffers(), *vae.parameters()):
            memory.see(tensor)
        everything = memory.live
        autoencoder = sum(parameter.nbytes for parameter in vae.parameters())
        x, u_t = (torch.randn(rows, *policy.latent_shape) for _ in range(2))
        t = torch.full((rows,), 0.5)
        of_rows, of_images = (conditioning.select(torch.arange(n)) for n in (rows, images))
        x_0 = torch.randn(images, *policy.latent_shape)

        def update() -> None:
            scale = config.training.guidance_scale
            with torch.no_grad(), policy.reference():
                v_ref = policy.velocity(x, t, of_rows, guidance_scale=scale)
            v = policy.velocity(x, t, of_rows, guidance_scale=scale)
            flow_objective(v, u_t, v_ref, t, beta=1 - t).mean().backward()
            optimizer.step()

        @torch.inference_mode()
        def sample() -> Tensor:
            times = torch.full((images,), 0.5)
            scale = most_guided(config)
            return x_0 + policy.velocity(x_0, times, of_images, guidance_scale=scale)

        @torch.inference_mode()
        def decode() -> Tensor:
            return policy._to_pixels(x_0)

        before = memory.live
        update()  # leaves the gradient, as the first micro-batch of a step does, and the moments
        learnt = memory.live - before
        found = {"update": memory.added(update)}
        optimizer.zero_grad(set_to_none=True)
        found["sampling"] = memory.added(sample)
        found["decoding"] = memory.added(decode)
    return {
        "transformer": everything - adapter - autoencoder,
        "autoencoder": autoencoder,
        "adapter and optimizer": adapter + learnt,
        **found,
    }


def compare(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    config = load_flow_config(name, ["model.device=cpu", *overrides])
    architecture = find_architecture(config.model.pretrained)
    assert architecture is not None, config.model.pretrained
    estimated = estimate(architecture, config)
    counted = count(config, architecture)
    parts = estimated.resident | estimated.working
    return {
        "recipe": name,
        "overrides": list(overrides),
        "parts": {
            part: {"counted": size, "estimated": parts[part]} for part, size in counted.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", default=list(RECIPES), metavar="RECIPE")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value")
    parser.add_argument("--output", type=Path, default=None, help="folder for the results")
    given = parser.parse_args()
    results = [compare(name, given.set) for name in given.recipes]
    print(f"GB by torch's count / by doctor's estimate\n\n{to_markdown(results)}", end="")
    if given.output is not None:
        write_results(given.output, results)


if __name__ == "__main__":
    main()

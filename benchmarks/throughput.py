"""Speed of drawing and learning, the use of the machine, and the loop's own share.

``python benchmarks/throughput.py [--model sd3-medium|embedded] [--dtype bfloat16] [--compile]
[--steps 4] [--output benchmarks/results/throughput] [key=value ...]``

``sd3-medium`` is Stable Diffusion 3 medium at its published sizes with random weights, trained as
``recipes/flow/sd3-medium-adrpo.yaml`` says; random embeddings stand for its text encoders', and
the embedded CLIP for the reward's. ``embedded`` is the embedded model and ``flow/adrpo``. Where no
model is named, a GPU gets the first and a CPU the second.

    images/s            images of a step / seconds of sampling (drawing and decoding), and of all
    model FLOPs         of one row, counted by torch through attention as plain products, without
                        what gradient checkpointing computes twice
    utilisation         model FLOPs / seconds / the device's FLOP/s, which are those of the best of
                        some products of large matrices of the same type in the same process
    loop / bare calls   as in benchmarks/loop_efficiency.py
    peak memory         of torch's allocator on a GPU; of the process, loading included, on a CPU;
                        beside it doctor's estimate, without CUDA's own and the models that score

Medians over the steps after the first, which warms up and compiles.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from loop_efficiency import overhead
from random_weights import random_trainer
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from adrpo.config import FlowConfig, load_flow_config
from adrpo.flow.memory.architectures import PUBLISHED, find_architecture
from adrpo.flow.memory.estimate import estimate
from adrpo.flow.models.loading import compile_transformer
from adrpo.flow.path.draws import initial_noise
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.memory import OVERHEAD
from adrpo.runs.environment import environment_record

SD3 = "stabilityai/stable-diffusion-3-medium-diffusers"
RECIPES = {"sd3-medium": "flow/sd3-medium-adrpo", "embedded": "flow/adrpo"}
NO_DOWNLOADS = {
    "sd3-medium": [
        "prompts.train=drawbench-style:train",
        "prompts.held_out=drawbench-style:held_out",
        "reward.0.options={model: embedded}",
    ],
    "embedded": [],
}
MATRIX = {"cuda": 8192, "cpu": 1024}
"""Side of the matrices whose product measures a device."""


def build_trainer(model: str, config: FlowConfig) -> FlowTrainer:
    if model == "embedded":
        return FlowTrainer(config)
    return random_trainer(PUBLISHED[SD3], config)


def count_flops(work: Callable[[], Any]) -> int:
    """FLOPs of ``work``: two for each multiplication and addition of a product or convolution."""
    # A fused attention has no count on some devices, and another one on each.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def flops_of_a_row(trainer: FlowTrainer) -> dict[str, int]:
    """Model FLOPs of one row: ``forward`` with the adapter, ``reference`` as the anchor has it,
    ``update`` forward and backward, ``decode``."""
    policy, device = trainer.policy, trainer.device
    transformer = policy.pipeline.transformer
    x_t = initial_noise(1, policy.latent_shape, 0, "flops").to(device)
    t = torch.full((1,), 0.5, device=device)
    one = trainer.prompts.conditioning.select(torch.tensor([0]))

    def forward() -> torch.Tensor:
        return policy.velocity(x_t, t, one)

    checkpointing = transformer.is_gradient_checkpointing
    transformer.disable_gradient_checkpointing()
    with torch.no_grad():
        counts = {"forward": count_flops(forward)}
        with trainer.models.anchor.active():
            counts["reference"] = count_flops(forward)
    counts["update"] = count_flops(lambda: forward().square().mean().backward())
    counts["decode"] = count_flops(lambda: policy.decode(x_t))
    for parameter in policy.adapter_parameters():
        parameter.grad = None
    if checkpointing:
        transformer.enable_gradient_checkpointing()
    return counts


def matmul_flops_per_second(device: torch.device, dtype: torch.dtype, repeats: int = 10) -> float:
    """FLOP/s of the fastest of ``repeats`` products of two square matrices."""
    side = MATRIX[device.type]
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        torch.matmul(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return 2 * side**3 / min(seconds[1:])  # the first one warms up


def peak_memory(device: torch.device) -> int:
    """Bytes since the process began, or since the count was last reset on a GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def estimated_memory(config: FlowConfig, prompts: int) -> float:
    """doctor's estimate of the tensors' bytes, without the models that score."""
    architecture = find_architecture(config.model.pretrained)
    assert architecture is not None, config.model.pretrained
    return estimate(architecture, config, prompts=prompts).total - OVERHEAD


def rates(
    rows: Sequence[dict[str, Any]], flops: dict[str, int], config: FlowConfig, peak: float
) -> dict[str, dict[str, float]]:
    """Images and model FLOPs of sampling, of the update, and of a whole step: medians of
    seconds, images/s and utilisation."""
    guided = 2 if config.sampling.guidance_scale != 1 else 1
    parts: dict[str, list[tuple[float, float]]] = {"sampling": [], "update": [], "training": []}
    for row in rows:
        drawn = guided * config.sampling.steps * row["samples"]
        learnt = row["model_calls"] - drawn - row["reference_rows"]
        sampling = drawn * flops["forward"] + row["samples"] * flops["decode"]
        update = learnt * flops["update"]
        whole = sampling + update + row["reference_rows"] * flops["reference"]
        parts["sampling"].append((row["seconds_sampling"], sampling))
        parts["update"].append((row["seconds_policy"], update))
        parts["training"].append((row["seconds_step"], whole))
    images = rows[0]["samples"]
    found = {}
    for name, pairs in parts.items():
        seconds = statistics.median(seconds for seconds, _ in pairs)
        work = statistics.median(work for _, work in pairs)
        found[name] = {
            "seconds": seconds,
            "images_per_second": images / seconds,
            "model_flops": work,
            "utilisation": work / seconds / peak,
        }
    return found


def configuration(model: str, dtype: str, overrides: Sequence[str]) -> FlowConfig:
    """The recipe of ``model`` without anything that has to be downloaded."""
    return load_flow_config(
        RECIPES[model],
        [
            f"model.dtype={dtype}",
            "model.embedding_cache=null",
            "evaluation.clip=embedded",
            *NO_DOWNLOADS[model],
            *overrides,
        ],
    )


def count_parameters(trainer: FlowTrainer) -> dict[str, int]:
    """Numbers of transformer, autoencoder and adapter."""
    parts = {
        part: sum(p.numel() for p in getattr(trainer.policy.pipeline, part).parameters())
        for part in ("transformer", "vae")
    }
    adapter = sum(p.numel() for p in trainer.policy.adapter_parameters())
    parts["transformer"] -= adapter
    return {**parts, "adapter": adapter}


def measure(
    model: str, dtype: str, *, compiled: bool, steps: int, overrides: Sequence[str]
) -> dict[str, Any]:
    config = configuration(model, dtype, overrides)
    trainer = build_trainer(model, config)
    policy, device = trainer.policy, trainer.device
    flops = flops_of_a_row(trainer)
    peak = matmul_flops_per_second(device, policy.pipeline.transformer.dtype)
    if compiled:
        compile_transformer(policy.pipeline.transformer, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    rows, loop = overhead(trainer, steps)
    return {
        "model": model,
        "recipe": RECIPES[model],
        "overrides": list(overrides),
        "dtype": dtype,
        "compiled": compiled,
        "device": device.type,
        "height": policy.height,
        "width": policy.width,
        "samples": rows[0]["samples"],
        "micro_batch_size": config.training.micro_batch_size,
        "sampling_steps": config.sampling.steps,
        "gradient_checkpointing": config.model.gradient_checkpointing,
        "parameters": count_parameters(trainer),
        "flops_of_a_row": flops,
        "device_flops_per_second": peak,
        "peak_memory_bytes": peak_memory(device),
        "estimated_memory_bytes": estimated_memory(config, len(trainer.prompts)),
        **rates(rows, flops, config, peak),
        "loop_over_bare_calls": loop,
        "steps": rows,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=RECIPES, default="sd3-medium" if on_gpu else "embedded")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default=None)
    parser.add_argument("--compile", action="store_true", help="compile the transformer")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--output", type=Path, default=None, help="folder for the JSON")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    given = parser.parse_args(arguments)
    dtype = given.dtype or ("bfloat16" if given.model == "sd3-medium" else "float32")
    result = measure(
        given.model, dtype, compiled=given.compile, steps=given.steps, overrides=given.overrides
    )
    result["environment"] = environment_record()
    for part in ("sampling", "update", "training"):
        row = result[part]
        print(
            f"{part:8}  {row['images_per_second']:8.3f} images/s  "
            f"{100 * row['utilisation']:5.1f} % of {result['device_flops_per_second']:.3g} FLOP/s"
        )
    print(
        f"peak memory {result['peak_memory_bytes'] / 1e9:.2f} GB, by doctor's estimate "
        f"{result['estimated_memory_bytes'] / 1e9:.2f} GB of tensors"
    )
    print(f"step / bare model calls {result['loop_over_bare_calls']['ratio_median']:.3f}")
    if given.output is not None:
        given.output.mkdir(parents=True, exist_ok=True)
        name = f"{given.model}-{result['device']}-{dtype}{'-compiled' if given.compile else ''}"
        text = json.dumps(result, indent=1) + "\n"
        (given.output / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

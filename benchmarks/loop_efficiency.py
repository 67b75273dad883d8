"""The time of the training loop over that of its model calls.

``python benchmarks/loop_efficiency.py [--steps 8] [--output benchmarks/results/loop_efficiency]``

In one process, in turn: a whole step of ``FlowTrainer``, and the bare model calls of that same
step (transformer forwards of the sampler, autoencoder decode, CLIP forwards, reference forward,
policy forward and backward) on tensors made beforehand. The figure is the median over the pairs
of step seconds / bare seconds.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from adrpo.config import load_flow_config
from adrpo.flow.path.draws import initial_noise
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.flow.training.stopwatch import Stopwatch
from adrpo.runs.environment import environment_record


def bare_calls(trainer: FlowTrainer, reference_rows: int) -> float:
    """Seconds of one step's model calls and nothing else."""
    config, pipeline, device = trainer.config, trainer.policy.pipeline, trainer.device
    batch = config.training.prompts_per_step * config.training.samples_per_prompt
    path_rows = batch * config.training.timesteps_per_sample
    micro = config.training.micro_batch_size
    conditioning = trainer.prompts.conditioning.select(
        torch.arange(path_rows) % len(trainer.prompts)
    )
    latents = initial_noise(path_rows, trainer.policy.latent_shape, 0, "benchmark")
    latents = latents.to(device, pipeline.transformer.dtype)
    timestep = torch.full((path_rows,), 500.0, device=device)
    clip = trainer.evaluator.drawing.clip._model
    side = clip.config.vision_config.image_size
    pixels = torch.zeros(batch, 3, side, side, device=device)
    prompts = config.training.prompts_per_step
    token_ids = torch.zeros(prompts, 10, dtype=torch.long, device=device)
    chunks = torch.arange(batch).split(micro)
    guided = config.sampling.guidance_scale != 1

    def forward(rows: torch.Tensor) -> torch.Tensor:
        return pipeline.transformer(
            hidden_states=latents[rows],
            timestep=timestep[rows],
            encoder_hidden_states=conditioning.context[rows],
            pooled_projections=conditioning.pooled[rows],
            return_dict=False,
        )[0]

    stopwatch = Stopwatch(device)
    with torch.inference_mode():
        for rows in chunks:
            for _ in range(config.sampling.steps):
                forward(torch.cat([rows, rows]) if guided else rows)
            pipeline.vae.decode(latents[rows], return_dict=False)
            clip.get_image_features(pixels[rows])
        clip.get_text_features(token_ids)
    with torch.no_grad(), trainer.models.anchor.active():
        for rows in torch.arange(reference_rows).split(micro):
            forward(rows)
    for rows in torch.arange(path_rows).split(micro):
        forward(rows).square().mean().backward()
    seconds = stopwatch.row()["seconds_step"]
    trainer.optimizer.zero_grad(set_to_none=True)
    return seconds


def overhead(
    trainer: FlowTrainer,
    steps: int,
    *,
    enough: Callable[[list[dict[str, Any]], dict[str, Any]], bool] = lambda rows, found: False,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of ``steps`` steps after a first one that warms up, and how many times the bare model
    calls they take; of fewer steps where ``enough``, asked after each with what is returned, says
    so."""
    row = trainer.step(1)
    bare_calls(trainer, row["reference_rows"])
    rows: list[dict[str, Any]] = []
    pairs: list[tuple[float, float]] = []
    for step in range(2, steps + 2):
        rows.append(trainer.step(step))
        pairs.append((rows[-1]["seconds_step"], bare_calls(trainer, rows[-1]["reference_rows"])))
        if enough(rows, compared(pairs)):
            break
    return rows, compared(pairs)


def compared(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    """Ratios and medians of pairs (seconds of a step, of its bare model calls)."""
    ratios = [whole / bare for whole, bare in pairs]
    return {
        "ratio_median": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "step_seconds_median": statistics.median(whole for whole, _ in pairs),
        "bare_seconds_median": statistics.median(bare for _, bare in pairs),
        "pairs": pairs,
    }


def measure(steps: int, recipe: str, overrides: list[str]) -> dict[str, Any]:
    trainer = FlowTrainer(load_flow_config(recipe, ["evaluation.clip=embedded", *overrides]))
    return {"recipe": recipe, "overrides": overrides, **overhead(trainer, steps)[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--recipe", default="flow/adrpo")
    parser.add_argument("--output", type=Path, default=None, help="folder for summary.json")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_args()
    result = measure(arguments.steps, arguments.recipe, arguments.overrides)
    result["environment"] = environment_record()
    print(
        f"step / bare model calls: median {result['ratio_median']:.3f} "
        f"(from {result['ratio_min']:.3f} to {result['ratio_max']:.3f})"
    )
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        text = json.dumps(result, indent=1) + "\n"
        (arguments.output / "summary.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

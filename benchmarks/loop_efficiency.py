"""What the training loop costs beside its model calls.

``python benchmarks/loop_efficiency.py [--steps 8] [--output benchmarks/results/loop_efficiency]``

In one process, in turn: a whole step of ``FlowTrainer``, and the bare model calls of that same
step (transformer forwards of the sampler, autoencoder decode, CLIP forwards, reference forward,
policy forward and backward) on tensors made beforehand. The figure is the median over the pairs
of step seconds / bare seconds.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch

from adrpo.config import find_recipe, load_config
from adrpo.flow.rollout import initial_noise
from adrpo.flow.trainer import FlowTrainer
from adrpo.runs.environment import environment_record


def bare_calls(trainer: FlowTrainer, reference_rows: int) -> float:
    """Seconds of one step's model calls and nothing else."""
    config, pipeline = trainer.config, trainer.policy.pipeline
    batch = config.training.prompts_per_step * config.training.samples_per_prompt
    path_rows = batch * config.training.timesteps_per_sample
    micro = config.training.micro_batch_size
    conditioning = trainer.conditioning.select(torch.arange(path_rows) % len(trainer.prompts))
    latents = initial_noise(path_rows, trainer.policy.latent_shape, 0, "benchmark")
    timestep = torch.full((path_rows,), 500.0)
    clip = trainer.evaluator.clip._model
    pixels = torch.zeros(batch, 3, trainer.policy.height, trainer.policy.width)
    token_ids = torch.zeros(config.training.prompts_per_step, 10, dtype=torch.long)
    chunks = torch.arange(batch).split(micro)

    def forward(rows: torch.Tensor) -> torch.Tensor:
        return pipeline.transformer(
            hidden_states=latents[rows],
            timestep=timestep[rows],
            encoder_hidden_states=conditioning.context[rows],
            pooled_projections=conditioning.pooled[rows],
            return_dict=False,
        )[0]

    started = time.perf_counter()
    with torch.inference_mode():
        for rows in chunks:
            for _ in range(config.sampling.steps):
                forward(rows)
            pipeline.vae.decode(latents[rows], return_dict=False)
            clip.get_image_features(pixels[rows])
        clip.get_text_features(token_ids)
    with torch.no_grad(), trainer.anchor.active():
        for rows in torch.arange(reference_rows).split(micro):
            forward(rows)
    for rows in torch.arange(path_rows).split(micro):
        forward(rows).square().mean().backward()
    seconds = time.perf_counter() - started
    trainer.optimizer.zero_grad(set_to_none=True)
    return seconds


def measure(steps: int, recipe: str, overrides: list[str]) -> dict[str, object]:
    trainer = FlowTrainer(
        load_config(find_recipe(recipe), ["evaluation.clip=embedded", *overrides])
    )
    row = trainer.step(1)
    bare_calls(trainer, row["reference_rows"])
    pairs = []
    for step in range(2, steps + 2):
        row = trainer.step(step)
        pairs.append((row["seconds_step"], bare_calls(trainer, row["reference_rows"])))
    ratios = [whole / bare for whole, bare in pairs]
    return {
        "recipe": recipe,
        "overrides": overrides,
        "ratio_median": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "step_seconds_median": statistics.median(whole for whole, _ in pairs),
        "bare_seconds_median": statistics.median(bare for _, bare in pairs),
        "pairs": pairs,
    }


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

"""``adrpo sample`` and ``adrpo evaluate``: a run or a pretrained model by its name."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adrpo.config import (
    EvaluationConfig,
    FlowConfig,
    ModelConfig,
    SamplingConfig,
    load_config,
)
from adrpo.data.prompts import load_prompts
from adrpo.errors import AdrpoError
from adrpo.evaluation.values import summarise
from adrpo.flow.evaluator import Evaluator
from adrpo.flow.loading import load_policy
from adrpo.flow.policy import WEIGHTS_NAME, PipelinePolicy
from adrpo.flow.rollout import initial_noise
from adrpo.rewards.loading import build_reward

BATCH = 64
"""Images drawn at once by ``sample_images``."""


def _is_run(target: str) -> bool:
    return (Path(target) / "config.yaml").is_file()


def _config(target: str) -> FlowConfig:
    """The run's own configuration, or the defaults around a pretrained model."""
    if _is_run(target):
        return load_config(Path(target) / "config.yaml")
    return FlowConfig(model=ModelConfig(pretrained=target))


def _policy(
    target: str, config: FlowConfig, prompt_sets: Sequence[Sequence[str]]
) -> PipelinePolicy:
    policy = load_policy(config.model, prompt_sets=prompt_sets)
    if _is_run(target):
        final = Path(target) / "final"
        if not (final / WEIGHTS_NAME).is_file():
            raise AdrpoError(
                f"expected a finished run with {final / WEIGHTS_NAME}; {target} has none yet; "
                f"finish it with --resume"
            )
        policy.load_adapter(final)
    return policy


def sample_images(
    target: str,
    prompts: Sequence[str],
    *,
    steps: int,
    guidance_scale: float,
    seed: int,
    output_dir: Path,
) -> list[Path]:
    """Draw one image for each prompt into ``output_dir``; the noise depends on ``seed`` alone."""
    batches = [prompts[start : start + BATCH] for start in range(0, len(prompts), BATCH)]
    policy = _policy(target, _config(target), batches)
    sampling = SamplingConfig(steps=steps, guidance_scale=guidance_scale)
    x_0 = initial_noise(len(prompts), policy.latent_shape, seed, "sample")
    output_dir.mkdir(parents=True, exist_ok=True)
    files = []
    for batch, noise in zip(batches, x_0.split(BATCH), strict=True):
        conditioning = policy.encode(batch)
        for image in policy.decode(policy.sample(noise, conditioning, sampling)):
            files.append(output_dir / f"{len(files):03d}.png")
            image.save(files[-1])
    return files


def evaluate_target(
    target: str,
    *,
    prompts: str,
    size: int,
    samples_per_prompt: int,
    steps: int,
    guidance_scale: float,
    seed: int,
    output: Path | None,
) -> dict[str, Any]:
    """Measure a run's model, or a pretrained one, with 95 % intervals.

    For a run the row also holds ``<metric>_change`` against its base, paired prompt by prompt
    and noise by noise. With ``output`` the row is written there as JSON.
    """
    config = _config(target)
    evaluation = EvaluationConfig(
        samples_per_prompt=samples_per_prompt,
        sampling=SamplingConfig(steps=steps, guidance_scale=guidance_scale),
        seed=seed,
        clip=config.evaluation.clip,
    )
    asked = load_prompts(prompts, size=size, seed=seed)
    policy = _policy(target, config, [[prompt.text for prompt in asked]])
    evaluator = Evaluator(evaluation, policy, build_reward(config.reward, policy.device), asked)
    base = None
    if _is_run(target):
        with policy.reference():
            base = evaluator.measure().values
    measured = evaluator.measure()
    row: dict[str, Any] = {
        "target": target,
        "prompts": len(evaluator.prompts),
        "samples": len(measured.images),
    }
    row |= summarise(measured.values, evaluator.categories, base, seed=seed)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    return row

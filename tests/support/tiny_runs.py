"""Small runs of images, and rewards to train on."""

import atexit
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adrpo.config import FlowConfig
from adrpo.data import Prompt
from adrpo.evaluation.evaluator import Evaluator
from adrpo.flow.domain import build_trainer
from adrpo.flow.drawing import DrawnImages, ImageDrawing
from adrpo.flow.models.families.stable_diffusion_3 import StableDiffusion3Policy
from adrpo.flow.models.prompt_set import PromptSet
from adrpo.flow.training.loop import TrainingLoop
from adrpo.rewards import RewardTerm
from support.tiny_pipelines import FAMILIES

TIMINGS = ("seconds", "samples_per_second")


@cache
def random_sd3() -> dict[str, Any]:
    """Section ``model`` of a minute SD3 with random weights, a step of which takes a third of one
    of the embedded model's."""
    folder = Path(tempfile.mkdtemp(prefix="random-sd3-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    family = FAMILIES["sd3"]
    family.build().save_pretrained(folder)
    # Its tokenizer knows letters: the longest caption has about 80.
    size = {"height": family.height, "width": family.width, "max_sequence_length": 96}
    return {"pretrained": str(folder), "device": "cpu", **size}


def tiny_config(**sections: Any) -> FlowConfig:
    """Two prompts of three images a step, two sampling steps, on the random model."""
    settings: dict[str, Any] = {
        "model": random_sd3(),
        "prompts": {"train_size": 5, "held_out_size": 4},
        "sampling": {"steps": 2},
        "training": {
            "steps": 4,
            "prompts_per_step": 2,
            "samples_per_prompt": 3,
            "micro_batch_size": 6,
        },
        "evaluation": {
            "every": 2,
            "samples_per_prompt": 2,
            "strip_prompts": 2,
            "sampling": {"steps": 2},
        },
        "checkpoint": {"every": 2},
    }
    if "pretrained" in sections.get("model", {}):
        del settings["model"]
    for name, section in sections.items():
        parts = isinstance(section, dict)
        settings[name] = settings.get(name, {}) | section if parts else section
    return FlowConfig.model_validate(settings)


def embedded_config(**sections: Any) -> FlowConfig:
    """``tiny_config`` of the embedded model, for tests of what is drawn."""
    model = {"pretrained": "embedded"} | sections.pop("model", {})
    return tiny_config(model=model, **sections)


class Stopped(Exception):
    """Ends a run between two steps."""


def whole_and_resumed(
    config: FlowConfig, reward: Callable[..., Any], folder: Path
) -> tuple[TrainingLoop, TrainingLoop]:
    """The trainers of two runs of one seed: that of ``folder``/whole, and that of
    ``folder``/stopped, which was stopped after step 3, its last checkpoint being of step 2, and
    gone on with."""
    whole = build_trainer(config, reward=reward)
    whole.train(folder / "whole", progress=False)
    trainer = build_trainer(config, reward=reward)
    make_step = trainer.step

    def step(number: int) -> dict[str, Any]:
        if number == 4:
            raise Stopped
        return make_step(number)

    trainer.step = step  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        trainer.train(folder / "stopped", progress=False)
    resumed = build_trainer(config, reward=reward)
    resumed.train(folder / "stopped", resume=True, progress=False)
    return whole, resumed


def perturb(policy: StableDiffusion3Policy, seed: int = 1) -> None:
    """Move the adapter away from where it is, as training would."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in policy.adapter_parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)


def image_evaluator(
    config: FlowConfig,
    policy: StableDiffusion3Policy,
    prompts: Sequence[Prompt],
    reward: Sequence[RewardTerm] = (),
    others: Sequence[RewardTerm] = (),
) -> Evaluator[DrawnImages]:
    """The evaluator of a policy, as training makes it."""
    drawing = ImageDrawing(config, policy, PromptSet.encoded(policy, prompts))
    return Evaluator(drawing, reward, others=others)


def metrics_without_timings(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in row.items() if not any(t in name for t in TIMINGS)}
        for row in rows
    ]


def adapter_bytes(run: Path) -> bytes:
    return (run / "final" / "pytorch_lora_weights.safetensors").read_bytes()


def darkness(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
    """Ink on the picture: more of it is better."""
    return [(255 - float(np.asarray(image).mean())) / 4 for image in images]


def noisy_darkness(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
    """A reward that draws from NumPy's global generator, as some users' do."""
    noise = np.random.normal(size=len(images))
    return [value + n for value, n in zip(darkness(prompts, images), noise, strict=True)]  # type: ignore[operator]


def one_short(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
    return darkness(prompts, images)[1:]


def broken(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
    raise RuntimeError("the judge is away")


def moody(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
    """A reward that draws from the global generators of Python, NumPy and torch."""
    moods = [random.random() + np.random.random() + float(torch.rand(())) for _ in images]
    return [value + mood for value, mood in zip(darkness(prompts, images), moods, strict=True)]  # type: ignore[operator]


def of_any_sample(prompts: list[Any], **_: Any) -> list[float | None]:
    """A reward of pictures and completions alike."""
    return [float(len(prompt)) for prompt in prompts]

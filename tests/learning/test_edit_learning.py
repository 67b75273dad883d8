"""A tiny editor gets better at its task, which nobody can do who does not see the original."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from adrpo.flow.domain import build_trainer
from adrpo.flow.models.families.flux import FluxKontextPolicy
from support.tiny_editors import EDITORS
from support.tiny_runs import tiny_config

STEPS = 24
FAMILY = EDITORS["flux kontext"]


def light(image: Image.Image) -> float:
    """Mean of all pixels over that of a grey one."""
    return float(np.asarray(image).mean()) - 127.5


def keeps_its_light(
    prompts: list[str], images: list[Image.Image], image: list[Image.Image], **_: Any
) -> list[float | None]:
    """Light of the edit where the original is light, dark where it is dark.

    Half of the originals are light and the words are the same for all: what an edit that ignores
    the original wins on these, it loses on the others. The spread within a prompt is about 1.
    """
    return [light(edit) * np.sign(light(own)) / 2 for edit, own in zip(images, image, strict=True)]


def greys(folder: Path, name: str, levels: tuple[int, ...]) -> str:
    """A file of one instruction for a grey picture of each level."""
    lines = []
    for level in levels:
        picture = f"{name}-{level}.png"
        Image.new("RGB", (FAMILY.width, FAMILY.height), (level,) * 3).save(folder / picture)
        lines.append(json.dumps({"prompt": "keep its light", "image": picture}))
    (folder / f"{name}.jsonl").write_text("".join(line + "\n" for line in lines))
    return str(folder / f"{name}.jsonl")


def as_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latents that are colours: in the tiny autoencoder's random layers light is hardly seen."""

    def decode(self: Any, latents: Tensor, return_dict: bool = True) -> tuple[Tensor]:
        return (F.interpolate(latents[:, :3] / 3, scale_factor=2),)

    def encode(self: Any, pixels: Tensor) -> Any:
        colours = F.pad(3 * F.avg_pool2d(pixels, 2), (0, 0, 0, 0, 0, 1))
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: colours))

    monkeypatch.setattr(AutoencoderKL, "decode", decode)
    monkeypatch.setattr(AutoencoderKL, "encode", encode)


def gain(folder: Path) -> float:
    """Rise of the reward on originals that were not trained on, in spreads within a prompt."""
    FAMILY.build().save_pretrained(folder / "model")
    config = tiny_config(
        model={"pretrained": str(folder / "model"), "device": "cpu", **FAMILY.sizes},
        prompts={
            "train": greys(folder, "train", (20, 60, 195, 235)),
            "held_out": greys(folder, "held_out", (0, 40, 215, 255)),
        },
        adapter={"rank": 8, "target_modules": None},
        training={
            "prompts_per_step": 4,
            "samples_per_prompt": 8,
            "micro_batch_size": 32,
            "learning_rate": 1e-2,
        },
        sampling={"steps": 4},
        evaluation={"samples_per_prompt": 12, "sampling": {"steps": 4}},
    )
    trainer = build_trainer(config, reward=keeps_its_light)
    before = trainer.evaluator.measure().values["keeps_its_light"]
    for step in range(1, STEPS + 1):
        trainer.step(step)
    after = trainer.evaluator.measure().values["keeps_its_light"]
    return float((after - before).mean() / before.std(axis=1).mean())


def test_an_editor_learns_to_keep_what_its_original_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_colours(monkeypatch)
    # 0.23 were found; the error of 48 pairs that share their noise is 0.013.
    assert gain(tmp_path) > 0.1


def test_without_its_original_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_colours(monkeypatch)
    seen = FluxKontextPolicy._to_latents
    monkeypatch.setattr(
        FluxKontextPolicy, "_to_latents", lambda self, x: torch.zeros_like(seen(self, x))
    )
    # All prompts are one then: the sum of their rewards is 0 but for the noise.
    assert abs(gain(tmp_path)) < 0.05

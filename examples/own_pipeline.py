"""A pipeline, prompts and a reward of one's own, in Python: trained, and loaded into diffusers.

    python examples/own_pipeline.py [FOLDER_OR_HUB_ID]

Without an argument the pipeline is the small one that ships. docs/start/your-own.md is the same by
the command line.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusion3Pipeline
from PIL.Image import Image

from adrpo.config import load_flow_config
from adrpo.embedded.weights import weights_path
from adrpo.flow import FlowTrainer

PROMPTS = [
    f"a {color} {shape}" for color in ("red", "blue") for shape in ("circle", "star", "ring")
]


def darkness(prompts: list[str], images: list[Image], **columns: Any) -> list[float]:
    """Percent of full scale that the mean of a picture's pixels is below white."""
    return [100 - float(np.asarray(image.convert("L")).mean()) / 2.55 for image in images]


def train(pipeline: str, folder: Path, settings: Sequence[str] = ()) -> Path:
    """The run in ``folder``; ``settings`` are KEY=VALUE, as on the command line."""
    prompts = folder.with_suffix(".txt")
    prompts.parent.mkdir(parents=True, exist_ok=True)
    prompts.write_text("\n".join(PROMPTS), encoding="utf-8")
    own = {
        "model.pretrained": pipeline,
        "model.max_sequence_length": 1,  # in the place of T5, which it has not
        "prompts.train": f"{prompts}:train",
        "prompts.held_out": f"{prompts}:held_out",
        "training.prompts_per_step": 3,
        "training.steps": 20,
        "evaluation.every": 10,
        "evaluation.strip_prompts": 3,
    }
    config = load_flow_config("flow/adrpo", [*(f"{k}={v}" for k, v in own.items()), *settings])
    return FlowTrainer(config, reward=darkness).train(folder)


def draw(pipeline: str, adapter: Path | None, steps: int = 20) -> Image:
    """One picture by diffusers alone; the same noise with every adapter."""
    loaded = StableDiffusion3Pipeline.from_pretrained(
        pipeline, text_encoder_3=None, tokenizer_3=None, dtype=torch.float32
    )
    if adapter is not None:
        loaded.load_lora_weights(adapter)
    noise = torch.Generator().manual_seed(0)
    asked = {"num_inference_steps": steps, "guidance_scale": 1, "max_sequence_length": 1}
    return loaded(PROMPTS[0], **asked, generator=noise).images[0]


def main() -> None:
    pipeline = sys.argv[1] if len(sys.argv) > 1 else str(weights_path("pipeline"))
    run = train(pipeline, Path("runs/own-pipeline"))
    for name, adapter in (("before", None), ("after", run / "final")):
        draw(pipeline, adapter).save(run / f"{name}.png")
        print(run / f"{name}.png")


if __name__ == "__main__":
    main()

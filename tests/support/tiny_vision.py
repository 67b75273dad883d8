"""A DINOv2 of transformers' own class with few weights, and pictures to look at."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

WIDTH = 16
"""Features of an image by the tiny model."""

SIDE = 28
"""Pixels of a side of what its processor cuts out."""


def tiny_dinov2(folder: Path) -> Path:
    """Save a random DINOv2 and its image processor into ``folder``, as the published ones lie."""
    from transformers import Dinov2Config, Dinov2Model
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil

    torch.manual_seed(0)
    size: dict[str, Any] = {
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    model = Dinov2Model(Dinov2Config(**size, image_size=SIDE, patch_size=14))
    # As initialized, features of all images nearly agree; larger weights tell them apart.
    for parameter in model.parameters():
        parameter.data.mul_(6)
    model.save_pretrained(folder)
    BitImageProcessorPil(
        size={"shortest_edge": SIDE + 4}, crop_size={"height": SIDE, "width": SIDE}
    ).save_pretrained(folder)
    return folder


def pictures(count: int, seed: int = 0) -> list[Image.Image]:
    """Pictures of noise, of several sizes."""
    rng = np.random.default_rng(seed)
    sizes = [(40 + 4 * number, 48, 3) for number in range(count)]
    return [Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)) for size in sizes]


def picture_folder(folder: Path, count: int, seed: int = 0) -> Path:
    """Save ``pictures`` into ``folder``, one of them in a folder of its own."""
    for number, picture in enumerate(pictures(count, seed)):
        file = folder / ("" if number else "inner") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file)
    return folder

"""Training pictures of the CLIP models: scenes drawn right, wrong and spoilt, and augmentation."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adrpo.embedded.scenes import Scene, sample_scene, sample_split
from tools.embedded.corruptions import corrupt, draw, wrong_scene

MOVE = 3


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Scenes with four pictures each: right, right in another layout, one attribute away, spoilt.
    uint8 [n, 3, 64, 64]."""

    scenes: list[Scene]
    right: Tensor
    other: Tensor
    wrong: Tensor
    spoilt: Tensor


def draw_pool(size: int, rng: np.random.Generator, *, held_out_too: bool) -> Pool:
    scenes = [
        sample_scene(rng) if held_out_too else sample_split(rng, split="train") for _ in range(size)
    ]
    seeds = [int(seed) for seed in rng.integers(2**31, size=size)]

    def stack(images: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()

    pairs = list(zip(scenes, seeds, strict=True))
    return Pool(
        scenes=scenes,
        right=stack([draw(scene, seed) for scene, seed in pairs]),
        other=stack([draw(scene, seed + 1) for scene, seed in pairs]),
        wrong=stack([wrong_scene(scene, seed, rng) for scene, seed in pairs]),
        spoilt=stack([corrupt(scene, seed, rng) for scene, seed in pairs]),
    )


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 pictures [n, 3, 64, 64] as [-1, 1]: moved by up to 3 pixels, a third of them slightly
    noised and a third slightly blurred, as an autoencoder leaves them."""
    pixels = _moved(images.float() / 127.5 - 1, generator)
    draws = torch.rand(len(pixels), generator=generator)[:, None, None, None]
    soft = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    noise = 0.06 * torch.randn(pixels.shape, generator=generator)
    pixels = torch.where(draws < 0.33, (pixels + 2 * soft) / 3, pixels)
    return torch.where(draws > 0.67, pixels + noise, pixels).clamp(-1, 1)


def _moved(pixels: Tensor, generator: torch.Generator) -> Tensor:
    count, channels, size, _ = pixels.shape
    padded = F.pad(pixels, (MOVE, MOVE, MOVE, MOVE), mode="replicate")
    offsets = torch.randint(2 * MOVE + 1, (2, count, 1), generator=generator)
    rows, columns = offsets + torch.arange(size)
    index = torch.arange(count)[:, None, None, None]
    channel = torch.arange(channels)[None, :, None, None]
    return padded[index, channel, rows[:, None, :, None], columns[:, None, None, :]]

"""HPS v2.1: a CLIP that was tuned on people's choices between images of one prompt."""

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import normalize

from adrpo.errors import AdrpoError
from adrpo.rewards.blip import PIXEL_MEAN, PIXEL_STD
from adrpo.rewards.conversion import read_checkpoint
from adrpo.rewards.image import load_tokenizer
from adrpo.rewards.open_clip import open_clip_model

PUBLISHED = "HPS v2.1's 'HPS_v2.1_compressed.pt' (Hub id xswu/HPSv2)"

VISION_HEAD_WIDTH = 80
"""Width of an attention head of ViT-H/14's vision tower."""


class HpsScore:
    """HPS v2.1, the human preference score: cos(image embedding, text embedding), in [-1, 1].

    By OpenCLIP's ViT-H/14 tuned on the choices of HPD v2. Images of today's models lie near 0.25 to
    0.33, and differences of 0.01 are large: with ``advantage_scale: none`` give the term a weight
    of 100. Texts are cut to 77 tokens. Source: arXiv 2306.09341; the package hpsv2 scores by v2.0
    unless it is asked for v2.1.

    The longer side of an image is resized to 224 (Pillow's bicubic), the shorter one in proportion,
    and black is added on both sides of it, so that nothing is cut off.

    Args:
        weights: ``HPS_v2.1_compressed.pt`` of the Hub's xswu/HPSv2 (Apache-2.0), or its conversion
            to safetensors.
        tokenizer: a folder or Hub id of CLIP's tokenizer, which is that of the model it started
            from.
        device: where the model runs, in float32.
        batch_size: images or texts per forward pass; a memory knob.

    Raises:
        AdrpoError: the weights or the tokenizer can't be found or read, or are of another model.
    """

    def __init__(
        self,
        weights: str | Path,
        tokenizer: str | Path = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        device: str | torch.device = "cpu",
        batch_size: int = 16,
    ) -> None:
        tensors = read_checkpoint(weights, published=PUBLISHED)
        model: Any = open_clip_model(
            tensors, vision_head_width=VISION_HEAD_WIDTH, source=str(weights)
        )
        self._tokenizer = load_tokenizer(str(tokenizer))
        words = model.config.text_config.vocab_size
        if len(self._tokenizer) != words:
            raise AdrpoError(
                f"expected a tokenizer with the {words} words of {str(weights)!r}, received "
                f"{len(self._tokenizer)} in {str(tokenizer)!r}: name CLIP's tokenizer"
            )
        self._model = model.to(device)
        self._device = torch.device(device)
        self.batch_size = batch_size

    @torch.inference_mode()
    def __call__(self, prompts: list[str], images: list[Image], **columns: Any) -> list[float]:
        """One score a sample."""
        scores: list[float] = []
        for start in range(0, len(images), self.batch_size):
            rows = slice(start, start + self.batch_size)
            pairs = (self._embed_images(images[rows]), self._embed_texts(prompts[rows]))
            of_image, of_text = (normalize(embeds, dim=-1) for embeds in pairs)
            scores += (of_image * of_text).sum(dim=1).tolist()
        return scores

    def _embed_images(self, images: list[Image]) -> Tensor:
        size = self._model.config.vision_config.image_size
        pixels = padded_pixels(images, size).to(self._device)
        return self._model.get_image_features(pixels).pooler_output

    def _embed_texts(self, prompts: list[str]) -> Tensor:
        tokens = self._tokenizer(
            prompts,
            padding=True,
            truncation=True,
            max_length=self._model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self._device)
        # Texts end where they first have their end, so what stands behind it is never read.
        return self._model.get_text_features(tokens["input_ids"]).pooler_output


def padded_pixels(images: list[Image], size: int) -> Tensor:
    """Whole images, [images, 3, size, size], float32, (value / 255 - mean) / std per channel.

    The longer side is ``size`` pixels, the shorter one in proportion and rounded to the nearest;
    the rest is black before the normalisation, half of it (rounded down) before the image.
    """
    rows = np.stack([np.asarray(_padded(image.convert("RGB"), size)) for image in images])
    values = torch.from_numpy(rows).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(channel).view(3, 1, 1) for channel in (PIXEL_MEAN, PIXEL_STD))
    return (values - mean) / std


def _padded(image: Image, size: int) -> Image:
    scale = size / max(image.size)
    width, height = (round(side * scale) for side in image.size)
    small = image.resize((width, height), PIL.Image.Resampling.BICUBIC)
    whole = PIL.Image.new("RGB", (size, size))
    whole.paste(small, ((size - width) // 2, (size - height) // 2))
    return whole

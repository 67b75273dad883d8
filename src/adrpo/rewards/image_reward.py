"""ImageReward: a learned score of human preference."""

from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from adrpo.errors import AdrpoError
from adrpo.rewards.blip import TOKENIZER, BlipImageText
from adrpo.rewards.conversion import read_checkpoint
from adrpo.rewards.linear_head import linear_head

MEAN = 0.16717362830052426
STD = 1.0333394966054072
"""Moments of the head's output over ImageReward's training data, as published with the model."""

PUBLISHED = "ImageReward's 'ImageReward.pt' (Hub id THUDM/ImageReward, now zai-org/ImageReward)"


class ImageReward:
    """ImageReward: preference for an image given its prompt, about N(0, 1) on its training data.

        image_reward = (head(h) - 0.16717) / 1.03334

    with h the class token of the prompt, read by BLIP's text encoder with cross-attention to the
    image's tokens (ViT-L, 224 pixels), and the head a stack of linear layers without activations.
    Unbounded; greater is preferred; good models reach about 1 to 1.6. Prompts are cut to 35
    tokens: what stands behind them is not judged. Source: arXiv 2304.05977.

    Args:
        weights: ``ImageReward.pt`` of the Hub's THUDM/ImageReward (1.8 GB, Apache-2.0), or its
            conversion to safetensors. The ``med_config.json`` beside it is not needed.
        tokenizer: a folder or Hub id of BERT's uncased tokenizer.
        device: where the model runs, in float32.
        batch_size: samples per forward pass; a memory knob.

    Raises:
        AdrpoError: the weights or the tokenizer can't be found or read, or are of another model.
    """

    def __init__(
        self,
        weights: str | Path,
        tokenizer: str | Path = TOKENIZER,
        device: str | torch.device = "cpu",
        batch_size: int = 64,
    ) -> None:
        blip: dict[str, Tensor] = {}
        head: dict[str, Tensor] = {}
        for name, tensor in read_checkpoint(weights, published=PUBLISHED).items():
            if name.startswith("blip."):
                blip[name.removeprefix("blip.")] = tensor
            else:
                head[name] = tensor
        self._blip = BlipImageText(blip, tokenizer, str(weights)).to(device)
        self._head = linear_head(head, prefix="mlp.layers.", source=str(weights)).to(device)
        self.batch_size = batch_size
        expected, received = (
            self._blip.text.config.hidden_size,
            head["mlp.layers.0.weight"].shape[1],
        )
        if expected != received:
            raise AdrpoError(
                f"expected a head on {expected} numbers in {str(weights)!r}, received one on "
                f"{received}: name the published file"
            )

    @torch.inference_mode()
    def __call__(self, prompts: list[str], images: list[Image], **columns: Any) -> list[float]:
        """One score a sample."""
        scores: list[float] = []
        for start in range(0, len(images), self.batch_size):
            batch = slice(start, start + self.batch_size)
            output = self._head(self._blip.fuse(images[batch], prompts[batch]))[:, 0]
            scores += ((output - MEAN) / STD).tolist()
        return scores

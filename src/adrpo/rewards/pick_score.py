"""PickScore: a CLIP fine-tuned on the choices of Pick-a-Pic's users."""

from pathlib import Path

import torch

from adrpo.rewards.image import ClipScore


class PickScore(ClipScore):
    """PickScore: exp(logit_scale) cos(image embedding, text embedding).

    The published logit scale makes it 100 cos, in [-100, 100]; images of today's models lie near
    19 to 23, and differences of 0.5 are large. Some trainers divide it by 26: give the term
    ``weight: 0.0385`` for their scale. Texts are cut to the model's 77 tokens. Source:
    arXiv 2305.01569.

    Args:
        model: a folder or Hub id with ``config.json`` and ``model.safetensors`` of
            yuvalkirstain/PickScore_v1 (CLIP ViT-H/14, 3.9 GB), or another CLIPModel.
        processor: a folder or Hub id with its tokenizer and image processor, which are those of
            the model it started from.
        device: where the model runs, in float32.
        batch_size: images or texts per forward pass; a memory knob.

    Raises:
        AdrpoError: a model or processor can't be found or read, or is not complete.
    """

    def __init__(
        self,
        model: str | Path = "yuvalkirstain/PickScore_v1",
        processor: str | Path = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        device: str | torch.device = "cpu",
        batch_size: int = 16,
    ) -> None:
        super().__init__(model, device, batch_size, processor)
        self.scale = float(self._model.logit_scale.exp())

"""PickScore: a CLIP fine-tuned on the choices of Pick-a-Pic's users."""

from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image

from adrpo.errors import AdrpoError


class PickScore:
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
        batch_size: samples per forward pass; a memory knob.

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
        self._model = _load_model(str(model))
        self._model.to(device).eval().requires_grad_(False)
        self._tokenizer, self._image_processor = _load_processor(str(processor))
        self._device = torch.device(device)
        self.batch_size = batch_size

    @torch.inference_mode()
    def __call__(self, prompts: list[str], images: list[Image], **columns: Any) -> list[float]:
        """exp(logit_scale) cos(image_i, prompt_i) for each i."""
        scores: list[float] = []
        for start in range(0, len(images), self.batch_size):
            batch = slice(start, start + self.batch_size)
            tokens = self._tokenizer(
                prompts[batch],
                padding=True,
                truncation=True,
                max_length=self._model.config.text_config.max_position_embeddings,
                return_tensors="pt",
            )
            pixels = self._image_processor(images=images[batch], return_tensors="pt")
            output = self._model(
                input_ids=tokens["input_ids"].to(self._device),
                attention_mask=tokens["attention_mask"].to(self._device),
                pixel_values=pixels["pixel_values"].to(self._device),
            )
            # Both embeddings come back with length 1.
            cosines = (output.image_embeds * output.text_embeds).sum(dim=1)
            scores += (self._model.logit_scale.exp() * cosines).tolist()
        return scores


def _load_model(source: str) -> Any:
    from safetensors import SafetensorError
    from transformers import CLIPModel

    try:
        loaded: Any = CLIPModel.from_pretrained(
            source, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise AdrpoError(
            f"expected a folder or Hub id of PickScore's model, received {source!r}, which can't "
            f"be loaded: {_one_line(error)}"
        ) from error
    model, info = loaded
    if info["missing_keys"]:
        raise AdrpoError(
            f"expected a complete CLIP model in {source!r}, but its weights lack "
            f"{len(info['missing_keys'])} tensors, {min(info['missing_keys'])!r} among them: "
            "name a model of the CLIPModel architecture"
        )
    return model


def _load_processor(source: str) -> tuple[Any, Any]:
    from transformers import AutoImageProcessor, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        # Resizing differs between backends; Pillow's is everywhere and the scores then agree.
        image_processor = AutoImageProcessor.from_pretrained(source, backend="pil")
    except (OSError, ValueError) as error:
        raise AdrpoError(
            f"expected a folder or Hub id with PickScore's tokenizer and image processor, received "
            f"{source!r}, which can't be loaded: {_one_line(error)}"
        ) from error
    # Without its files a tokenizer still loads, empty, and every text would read the same.
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise AdrpoError(
            f"expected a tokenizer (tokenizer.json) in {source!r}, found one without words: name "
            "the Hub id or folder that PickScore's processor comes from"
        )
    return tokenizer, image_processor


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]

"""Checks of what a model gives, which find what is no number where it arises, and name it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from adrpo.errors import AdrpoError
from adrpo.flow.models.conditioning import Conditioning

WAY_OUT = "set model.dtype to bfloat16 or float32, which have the range"


def all_finite(rows: Tensor) -> Tensor:
    """Mask [rows] of those whose elements are all finite."""
    return rows.isfinite().flatten(1).all(1)


def check_embeddings(found: Conditioning, prompts: Sequence[str], dtype: torch.dtype) -> None:
    """Raise AdrpoError for the first of ``prompts`` that the text encoders, in ``dtype``, have no
    number for: T5 overflows in float16."""
    for tensor in vars(found).values():
        for prompt, finite in zip(prompts, all_finite(tensor).tolist(), strict=True):
            if not finite:
                raise AdrpoError(
                    f"prompts: expected finite embeddings, received NaN or infinity of the text "
                    f"encoders in {dtype} for {prompt!r:.80}; {WAY_OUT}"
                )


def check_latents(x_1: Tensor, dtype: torch.dtype) -> None:
    """Raise AdrpoError where the latents of an image, encoded in ``dtype``, are not finite."""
    if not x_1.isfinite().all():
        raise AdrpoError(
            f"encode_images: expected finite latents, received NaN or infinity of the autoencoder "
            f"in {dtype}; {WAY_OUT}"
        )

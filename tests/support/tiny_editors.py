"""One minute pipeline for each supported family that edits, as those of tests/tiny_pipelines.py."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from diffusers import FluxKontextPipeline, QwenImageEditPipeline
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit
from transformers import Qwen2VLImageProcessorPil, Qwen2VLProcessor

from adrpo.runs.picture_processor import of_pictures
from support.family import Family, plain
from support.tiny_judges import tokenizer
from support.tiny_pipelines import FAMILIES, flux, qwen_image, true_cfg

AREA = 32 * 48
"""Pixels of an original of Qwen-Image-Edit here, in a megapixel's place."""


def flux_kontext() -> Any:
    """FLUX.1 dev's parts: the network and its sizes are the same."""
    return FluxKontextPipeline(**flux(distilled=True).components)


def qwen_image_edit() -> Any:
    """Qwen-Image's parts, and a processor of pictures, which a token is 28 x 28 pixels of."""
    words = tokenizer()
    pictures = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=56 * 84)
    processor = of_pictures(Qwen2VLProcessor, pictures, words)
    return qwen_image(QwenImageEditPipeline, tokenizer=words, processor=processor)


@contextmanager
def small_originals() -> Iterator[None]:
    """A block in which the pipeline's call scales originals to ``AREA`` pixels: a megapixel takes
    seconds to encode."""
    found = pipeline_qwenimage_edit.calculate_dimensions

    def calculate_dimensions(area: int, ratio: float) -> tuple[int, int, None]:
        assert area == 1024 * 1024
        return found(AREA, ratio)

    with patch.object(pipeline_qwenimage_edit, "calculate_dimensions", calculate_dimensions):
        yield


EDITORS = {
    "flux kontext": Family(
        flux_kontext,
        plain,
        options={"_auto_resize": False, "max_area": None},  # that of the edit
        edits=True,
    ),
    "qwen-image-edit": Family(
        qwen_image_edit,
        true_cfg,
        tokens=None,
        edits=True,
        around=small_originals,
    ),
}
ALL = FAMILIES | EDITORS

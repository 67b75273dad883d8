"""The processors of pipelines whose text encoder also sees a picture."""

from collections.abc import Mapping
from typing import Any

from adrpo.runs.model_folder import NO_CODE, check_words
from adrpo.runs.picture_processor import of_pictures

OF_PICTURES = "Qwen2VLProcessor"
"""Class of transformers, as a pipeline's index names it, that also has a part for videos."""


def processors(source: str, parts: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a pipeline, by their names, that its own loading can't make without torchvision.

    Pictures are scaled by Pillow, with torchvision and without, so that embeddings are the same.

    Args:
        source: a folder or Hub id.
        parts: its index.

    Raises:
        AdrpoError: a tokenizer without words.
    """
    return {
        part: _processor(source, part)
        for part, kind in parts.items()
        if isinstance(kind, list) and OF_PICTURES in kind
    }


def _processor(source: str, folder: str) -> Any:
    from transformers import AutoImageProcessor, AutoTokenizer, Qwen2VLProcessor

    tokenizer = AutoTokenizer.from_pretrained(source, subfolder=folder, **NO_CODE)
    check_words(tokenizer, f"{source}/{folder}", "the processor's tokenizer")
    pictures = AutoImageProcessor.from_pretrained(
        source, subfolder=folder, backend="pil", **NO_CODE
    )
    return of_pictures(Qwen2VLProcessor, pictures, tokenizer)

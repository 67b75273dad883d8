"""The text encoders of a pipeline of diffusers."""

from typing import Any

from torch import nn

ENCODER = "text_encoder"
"""Beginning of the names of a pipeline's text encoders."""


def text_encoders(pipeline: Any) -> dict[str, nn.Module]:
    """A pipeline's text encoders by name, those that are there."""
    return {
        name: part
        for name, part in pipeline.components.items()
        if name.startswith(ENCODER) and isinstance(part, nn.Module)
    }

"""Policies that edit: an original, a picture, is part of what the network reads of a prompt."""

import warnings
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from adrpo.data.base import Prompt
from adrpo.errors import AdrpoWarning
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.embedding_cache import Asked, Edit
from adrpo.flow.models.families.packing import pack
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.models.prompt_reading import PromptReader
from adrpo.flow.originals import (
    IMAGE,
    Original,
    checksum,
    missing,
    original_of,
    read_original,
    size_of_original,
)
from adrpo.flow.prompt_columns import SIDES

STRETCHED = 0.1
"""Part of a proportion by which an original may be another than its edit without a word."""


class Edits(PipelinePolicy):
    """A policy whose network reads, behind the tokens of the latent, those of the original.

    The original is scaled to the size of the edit, as diffusers' image processor scales it, and
    encoded once. A record has it under the name ``original`` [n, tokens, dim], packed as the
    network takes it, with zeros behind the tokens of an edit that is smaller than others of the
    set (``families.packing.with_original`` cuts them off).
    """

    edits = True
    encoding_parts = (*PromptReader.encoding_parts, "vae*")

    def __init__(self, pipeline: Any, **options: Any) -> None:
        self._originals: dict[str, Original] = {}
        """By their checksums, which is how a row to be encoded names them."""
        super().__init__(pipeline, **options)

    def _asked(
        self, prompts: Sequence[str], originals: Sequence[Original | None]
    ) -> Sequence[Asked]:
        rows: list[Edit] = []
        stretched: list[str] = []
        given = originals or [None] * len(prompts)
        for prompt, original in zip(prompts, given, strict=True):
            if original is None:
                raise missing(type(self.pipeline).__name__, prompt)
            rows.append(_edit(prompt, original))
            self._originals[rows[-1].original] = original
            stretched += self._stretched(original)
        if stretched:
            warnings.warn(
                f"prompts: {len(stretched)} of {len(prompts)} pictures in the column {IMAGE} have "
                f"other proportions than their edits and are stretched, the first {stretched[0]}; "
                f"crop them, or give their rows the columns {' and '.join(SIDES)}",
                AdrpoWarning,
                stacklevel=3,
            )
        return rows

    def _stretched(self, original: Original) -> list[str]:
        """The sizes of an original whose proportions differ from its edit's, in words."""
        (width, height), (tall, wide) = size_of_original(original.value), self._size(original)
        if abs(width * tall / (height * wide) - 1) <= STRETCHED:
            return []
        return [f"from {width}x{height} to {wide}x{tall}"]

    def _size(self, edit: Original | Edit) -> tuple[int, int]:
        return edit.height or self.height, edit.width or self.width

    @classmethod
    def _rows_of(cls, prompts: Sequence[Prompt]) -> Sequence[Asked]:
        pairs = [(prompt, original_of(prompt)) for prompt in prompts]
        return [_edit(prompt.text, original) for prompt, original in pairs if original is not None]

    def _encode_rows(self, rows: list[Edit]) -> Conditioning:
        known = self._encode([row.prompt for row in rows])
        tokens = [Conditioning(original=self._tokens(row)) for row in rows]
        return Conditioning(**vars(known), **vars(Conditioning.cat(tokens)))

    def _tokens(self, row: Edit) -> Tensor:
        """The original, in the size of the edit, as the network takes it."""
        height, width = self._size(row)
        picture = read_original(self._originals[row.original].value)
        picture = self._image_processor.resize(picture, height, width)
        pixels = self._image_processor.preprocess(picture, height, width)
        vae = self.pipeline.vae
        latents = self._to_latents(pixels.to(vae.device, vae.dtype))
        return pack(latents).to(self.pipeline.dtype)


def _edit(prompt: str, original: Original) -> Edit:
    return Edit(prompt, checksum(original.value), original.height, original.width)

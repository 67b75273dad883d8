"""Policies that edit: an original, a picture, is part of what the network reads of a prompt."""

import warnings
from collections.abc import Sequence
from typing import ClassVar

from PIL import Image
from torch import Tensor

from adrpo.data.base import Prompt
from adrpo.errors import AdrpoWarning
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.embedding_cache import Asked, Edit, Prompts
from adrpo.flow.models.families.packing import pack
from adrpo.flow.models.negative_prompts import NegativePrompts
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
from adrpo.flow.prompt_columns import SIDES, negative_prompt_of

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
    encoding_parts = (*PromptReader.encoding_parts, "processor*", "vae*")
    sees: ClassVar[bool] = False
    """True where the text encoder sees the original, with negative prompts, too: these are in the
    prompt's own record then, ``negative_context`` and ``negative_mask``."""

    def _asked(
        self,
        prompts: Sequence[str],
        negative_prompts: Sequence[str | None],
        originals: Sequence[Original | None],
    ) -> Sequence[Asked]:
        beside = negative_prompts or [None] * len(prompts)
        rows: list[Edit] = []
        stretched: list[str] = []
        for place, (prompt, negative) in enumerate(zip(prompts, beside, strict=True)):
            original = originals[place] if place < len(originals) else None
            if original is None:
                raise missing(type(self.pipeline).__name__, prompt)
            rows.append(self._edit(prompt, original, negative or self._default))
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

    @classmethod
    def _edit(cls, prompt: str, original: Original, negative: str | None) -> Edit:
        beside = (negative or cls.nothing) if cls.sees else None
        return Edit(prompt, checksum(original.value), original.height, original.width, beside)

    def _stretched(self, original: Original) -> list[str]:
        """The sizes of an original whose proportions differ from its edit's, in words."""
        (width, height), (tall, wide) = size_of_original(original.value), self._size(original)
        if abs(width * tall / (height * wide) - 1) <= STRETCHED:
            return []
        return [f"from {width}x{height} to {wide}x{tall}"]

    def _size(self, edit: Original | Edit) -> tuple[int, int]:
        return edit.height or self.height, edit.width or self.width

    @classmethod
    def needed(
        cls, sets: Sequence[Sequence[Prompt]], negative_prompt: str | None, *, guided: bool
    ) -> list[Prompts]:
        found: list[Prompts] = []
        for prompts in sets:
            pairs = [(prompt, original_of(prompt)) for prompt in prompts]
            found.append(
                [
                    cls._edit(prompt.text, original, negative_prompt_of(prompt) or negative_prompt)
                    for prompt, original in pairs
                    if original is not None
                ]
            )
        return found

    def _negatives_of(self, default: str | None) -> "NegativePrompts | NegativesOfEdits":
        self._default = default
        self._originals: dict[str, Original] = {}
        return NegativesOfEdits() if self.sees else super()._negatives_of(default)

    def _encode_rows(self, rows: list[Edit]) -> Conditioning:
        known = self._encode_edits(rows)
        tokens = [Conditioning(original=self._tokens(row)) for row in rows]
        return Conditioning(**vars(known), **vars(Conditioning.cat(tokens)))

    def _encode_edits(self, rows: list[Edit]) -> Conditioning:
        """The record of ``rows`` but for their originals."""
        return self._encode([row.prompt for row in rows])

    def _picture(self, row: Edit) -> Image.Image:
        """The original in the size of the edit."""
        height, width = self._size(row)
        picture = read_original(self._originals[row.original].value)
        return self._image_processor.resize(picture, height, width)

    def _tokens(self, row: Edit) -> Tensor:
        height, width = self._size(row)
        pixels = self._image_processor.preprocess(self._picture(row), height, width)
        vae = self.pipeline.vae
        latents = self._to_latents(pixels.to(vae.device, vae.dtype))
        return pack(latents).to(self.pipeline.dtype)


class NegativesOfEdits:
    """Negative prompts that were encoded with each prompt's original, in the prompt's record; what
    guidance has beside it, as of ``NegativePrompts``."""

    def __bool__(self) -> bool:
        return True

    def added(self, found: Conditioning, texts: Sequence[str | None]) -> Conditioning:
        return found

    def beside(self, conditioning: Conditioning) -> Conditioning:
        return Conditioning(
            context=conditioning.negative_context,
            mask=conditioning.negative_mask,
            original=conditioning.original,
        )

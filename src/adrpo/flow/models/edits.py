"""Policies that edit: an original, a picture, is part of what the network reads of a prompt."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from adrpo.core.placement import sent
from adrpo.data.base import Prompt
from adrpo.errors import AdrpoWarning
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.embedding_cache import Asked, Edit, Prompts
from adrpo.flow.models.families.packing import pack
from adrpo.flow.models.negative_prompts import Negatives
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

AWAY = "negative_"
"""Before the names that a negative prompt's tensors have in the record of its prompt."""

ORIGINAL = "original"
"""Name of the tokens of the picture in a record."""

STRETCHED = 0.1
"""Part of a proportion by which an original may be another than its edit without a word."""


class Edits(PipelinePolicy):
    """A policy whose network reads, behind the tokens of the latent, those of the original.

    The original is scaled as the family's call scales a picture of the edit's size
    (``original_size``), by diffusers' image processor, and encoded once. A record has it under the
    name ``original`` [n, tokens, dim], packed as the network takes it, with zeros behind the tokens
    of one that is smaller than others of the set (``families.packing.with_original`` cuts them
    off).
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

    @classmethod
    def original_size(cls, height: int, width: int) -> tuple[int, int]:
        """Height and width in pixels that an original is read in, of an edit of this size."""
        return height, width

    def _encode_rows(self, rows: list[Edit]) -> Conditioning:
        pictures = [self._picture(row) for row in rows]
        known = self._read([row.prompt for row in rows], pictures)
        tokens = [Conditioning(original=self._tokens(picture)) for picture in pictures]
        return Conditioning(**vars(known), **vars(Conditioning.cat(tokens)))

    def _read(self, prompts: list[str], pictures: list[Image.Image]) -> Conditioning:
        """The conditioning of edits by the text encoders, which see the words alone where a family
        says no other."""
        return self._encode(prompts)

    def _picture(self, row: Edit) -> Image.Image:
        """The original in the size that it is read in."""
        picture = read_original(self._originals[row.original].value)
        return self._image_processor.resize(picture, *self.original_size(*self._size(row)))

    def _tokens(self, picture: Image.Image) -> Tensor:
        """A picture as the network takes it."""
        pixels = self._image_processor.preprocess(picture, picture.height, picture.width)
        vae = self.pipeline.vae
        latents = self._to_latents(pixels.to(vae.device, vae.dtype))
        return pack(latents).to(self.pipeline.dtype)


class GuidedEdits(Edits):
    """A policy that edits by classifier-free guidance, and reads a negative prompt with the
    original, too (``NegativeEdits``)."""

    def _negatives_beside(self, default: str | None) -> Negatives:
        return NegativeEdits(self._known, self.nothing if default is None else default)

    @classmethod
    def needed(
        cls, sets: Sequence[Sequence[Prompt]], negative_prompt: str | None, *, guided: bool
    ) -> list[Prompts]:
        default = cls.nothing if negative_prompt is None else negative_prompt
        rows = [cls._rows_of(prompts) for prompts in sets]
        texts = [[negative_prompt_of(prompt) for prompt in prompts] for prompts in sets]
        return [*rows, *(by_other_words(*both, default) for both in zip(rows, texts, strict=True))]


class NegativeEdits:
    """The negative prompts of a policy that edits: each is an edit of the same original, by other
    words.

    They are encoded as a set of their own, and are in the record of their prompts: what it has
    under a name is theirs under that name with ``AWAY`` before it.

    Args:
        encode: what makes the record of a set of edits.
        default: the words for prompts that have no negative prompt of their own.
    """

    def __init__(self, encode: Callable[[Sequence[Asked]], Conditioning], default: str) -> None:
        self._encode = encode
        self._default = default

    def __bool__(self) -> bool:
        return True

    def added(
        self, found: Conditioning, texts: Sequence[str | None], rows: Sequence[Asked] = ()
    ) -> Conditioning:
        """The record ``found`` of ``rows`` with the negative prompt of each."""
        away = vars(self._encode(by_other_words(rows, texts, self._default)))
        device = found.original.device
        own = {f"{AWAY}{name}": sent(away[name], device) for name in away if name != ORIGINAL}
        return Conditioning(**vars(found), **own)

    def beside(self, conditioning: Conditioning) -> Conditioning:
        """A row for each of ``conditioning``, of the same original."""
        record = vars(conditioning)
        own = {name: record[f"{AWAY}{name}"] for name in record if f"{AWAY}{name}" in record}
        return Conditioning(**own, **{ORIGINAL: record[ORIGINAL]})


def by_other_words(rows: Sequence[Any], texts: Sequence[str | None], default: str) -> list[Asked]:
    """The edits ``rows`` by other words, ``texts``; None, or no texts, is ``default``."""
    words = [default if text is None else text for text in texts or [None] * len(rows)]
    return [row._replace(prompt=text) for row, text in zip(rows, words, strict=True)]


def _edit(prompt: str, original: Original) -> Edit:
    return Edit(prompt, checksum(original.value), original.height, original.width)

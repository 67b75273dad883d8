"""Prompts and what a model reads of them, as one record."""

from collections.abc import Iterable, Sequence
from typing import overload

from adrpo.data.base import Prompt
from adrpo.errors import AdrpoError
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.protocol import Draws
from adrpo.flow.originals import original_of
from adrpo.flow.prompt_columns import SIDES, negative_prompt_of, size_of

Shape = tuple[int, ...]
"""The shape of one latent."""


def encoded(model: Draws, prompts: Sequence[Prompt]) -> Conditioning:
    """The conditioning of ``prompts`` by ``model``, with the negative prompts and the originals
    beside them."""
    texts = [prompt.text for prompt in prompts]
    negative = [negative_prompt_of(prompt) for prompt in prompts]
    originals = [original_of(prompt) for prompt in prompts]
    if any(originals):
        return model.encode(texts, negative, originals)
    return model.encode(texts, negative) if any(negative) else model.encode(texts)


class PromptSet(Sequence[Prompt]):
    """A sequence of prompts with their ``conditioning``, a row for each, and the ``shapes`` of
    their latents.

    They are encoded together, and once: what an encoder returns for a prompt depends, in its last
    bits, on the prompts that it is encoded with.
    """

    def __init__(
        self, prompts: Sequence[Prompt], conditioning: Conditioning, shapes: Sequence[Shape]
    ) -> None:
        if len(prompts) != len(conditioning):
            raise ValueError(
                f"expected a row for each of {len(prompts)} prompts, received {len(conditioning)}"
            )
        self._prompts = tuple(prompts)
        self.conditioning = conditioning
        self.shapes = tuple(shapes)

    @classmethod
    def encoded(cls, model: Draws, prompts: Sequence[Prompt]) -> "PromptSet":
        """The set of ``prompts`` as ``model`` encodes and draws them.

        Raises AdrpoError for a size that it can't draw.
        """
        sizes = map(size_of, prompts)
        shapes = [model.shape_of(*size) if any(size) else model.latent_shape for size in sizes]
        return cls(prompts, encoded(model, prompts), shapes)

    def __len__(self) -> int:
        return len(self._prompts)

    @overload
    def __getitem__(self, index: int) -> Prompt: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Prompt]: ...
    def __getitem__(self, index: int | slice) -> Prompt | Sequence[Prompt]:
        return self._prompts[index]


def check_one_size(sets: Iterable[PromptSet], engine: str) -> None:
    """Raise AdrpoError for prompts of several sizes, whose batches differ by process, where an
    ``engine`` wants the same network calls of all processes."""
    shapes = {shape for chosen in sets for shape in chosen.shapes}
    if len(shapes) > 1:
        raise AdrpoError(
            f"prompts: expected images of one size with {engine}, whose processes all make the "
            f"same network calls; received {len(shapes)} sizes by the columns {' and '.join(SIDES)}"
            f"; use recipes/accelerate/ddp.yaml"
        )

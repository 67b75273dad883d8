"""Prompts and what a model reads of them, as one record."""

from collections.abc import Sequence
from typing import overload

from adrpo.data.base import Prompt
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.protocol import Draws
from adrpo.flow.prompt_columns import negative_prompt_of


def encoded(model: Draws, prompts: Sequence[Prompt]) -> Conditioning:
    """The conditioning of ``prompts`` by ``model``, with the negative prompts beside them."""
    texts = [prompt.text for prompt in prompts]
    negative = [negative_prompt_of(prompt) for prompt in prompts]
    return model.encode(texts, negative) if any(negative) else model.encode(texts)


class PromptSet(Sequence[Prompt]):
    """A sequence of prompts with their ``conditioning``, a row for each.

    They are encoded together, and once: what an encoder returns for a prompt depends, in its last
    bits, on the prompts that it is encoded with.
    """

    def __init__(self, prompts: Sequence[Prompt], conditioning: Conditioning) -> None:
        if len(prompts) != len(conditioning):
            raise ValueError(
                f"expected a row for each of {len(prompts)} prompts, received {len(conditioning)}"
            )
        self._prompts = tuple(prompts)
        self.conditioning = conditioning

    @classmethod
    def encoded(cls, model: Draws, prompts: Sequence[Prompt]) -> "PromptSet":
        """The set of ``prompts`` as ``model`` encodes them."""
        return cls(prompts, encoded(model, prompts))

    def __len__(self) -> int:
        return len(self._prompts)

    @overload
    def __getitem__(self, index: int) -> Prompt: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Prompt]: ...
    def __getitem__(self, index: int | slice) -> Prompt | Sequence[Prompt]:
        return self._prompts[index]

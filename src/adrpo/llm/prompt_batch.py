"""Prompts of one batch as a model is given them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor

WHOLE = slice(None)


@dataclass(frozen=True, kw_only=True)
class PromptBatch:
    """Prompts as token ids, generation prompt included, and what the model takes beside them."""

    ids: list[list[int]]

    def inputs(self, rows: slice = WHOLE) -> dict[str, Tensor]:
        """Keyword arguments of the model for ``rows``, beside their tokens; none for texts."""
        del rows
        return {}

    def given(self, trainer: Any, rows: Sequence[int]) -> AbstractContextManager[None]:
        """A block in which ``trainer`` scores rows that begin with the prompts ``rows``, and gives
        its model what belongs to them."""
        del trainer, rows
        return nullcontext()

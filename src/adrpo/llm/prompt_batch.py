"""Prompts of one batch as a model is given them."""

from dataclasses import dataclass

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

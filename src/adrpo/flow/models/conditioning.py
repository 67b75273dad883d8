"""The conditioning record: what a model reads of its prompts, under the names of its family."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from adrpo.core.placement import sent


class Conditioning:
    """A record of what the model reads of n prompts: named tensors, a row of each for every prompt.

    A family names its own, and all use these names for the same things:

        context   [n, tokens, dim]    one embedding a token
        pooled    [n, dim]            one embedding a prompt
        mask      [n, tokens], bool   which tokens are the prompt's; the others are padding
        negative  [n], integer        which of the model's negative prompts guidance has beside it
        original  [n, tokens, dim]    the picture that is edited, one latent token each

    Where a negative prompt is read with the original, what guidance has beside each prompt is in
    its row, too: ``negative_context`` and ``negative_mask``.

    Example: ``Conditioning(context=context, pooled=pooled).pooled``.

    Raises:
        ValueError: no tensors, or tensors of different numbers of rows.
    """

    def __init__(self, **tensors: Tensor) -> None:
        rows = {name: len(tensor) for name, tensor in tensors.items()}
        if len(set(rows.values())) != 1:
            raise ValueError(f"expected tensors with one number of rows, received {rows}")
        vars(self).update(tensors)

    def __len__(self) -> int:
        """Number of prompts."""
        return len(next(iter(vars(self).values())))

    def __getattr__(self, name: str) -> Tensor:
        raise AttributeError(f"expected one of {', '.join(vars(self))}; received {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a Conditioning is frozen; {name!r} can't be set")

    def select(self, index: Tensor) -> "Conditioning":
        """The rows ``index`` (integers, repeats allowed)."""
        index = sent(index, next(iter(vars(self).values())).device)
        return Conditioning(**{name: tensor[index] for name, tensor in vars(self).items()})

    def to(self, device: torch.device) -> "Conditioning":
        """The same record on ``device``."""
        return Conditioning(**{name: sent(tensor, device) for name, tensor in vars(self).items()})

    @staticmethod
    def cat(parts: Sequence["Conditioning"]) -> "Conditioning":
        """The rows of all ``parts``, in order.

        Prompts of fewer tokens are padded with zeros at the end, mask included.

        Raises:
            ValueError: numbers of tokens differ, and there is no mask to tell padding from prompt.
        """
        columns = {name: [getattr(part, name) for part in parts] for name in vars(parts[0])}
        tokens = [column.shape[1] for column in columns.get("context", [])]
        if len(set(tokens)) > 1 and "mask" not in columns:
            raise ValueError(f"expected one number of tokens without a mask, received {tokens}")
        return Conditioning(
            **{name: torch.cat(_padded(column)) for name, column in columns.items()}
        )


def _padded(column: list[Tensor]) -> list[Tensor]:
    """[n, tokens, ...] each, with zeros up to the greatest number of tokens."""
    longest = max(tensor.shape[1] for tensor in column)
    return [
        pad(tensor, (0, 0) * (tensor.ndim - 2) + (0, longest - tensor.shape[1]))
        if tensor.shape[1] < longest
        else tensor
        for tensor in column
    ]

"""Negative prompts, which stand in the prompts' place in classifier-free guidance."""

import warnings
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.embedding_cache import Asked
from adrpo.flow.prompt_columns import NEGATIVE

NO_GUIDANCE = "whose guidance is distilled into the network, or absent"
"""Words for a model that has no use for a negative prompt."""

Encode = Callable[[str | None], Conditioning | None]
"""A function that gives one row of a negative prompt, and of no prompt for None; the row is None
where the model has no classifier-free guidance."""


class Negatives(Protocol):
    """The negative prompts of a policy; false where its model has no such guidance."""

    def __bool__(self) -> bool: ...

    def added(
        self, found: Conditioning, texts: Sequence[str | None], rows: Sequence[Asked] = ()
    ) -> Conditioning:
        """The record ``found`` of ``rows`` with the negative prompt of each, ``texts``; None, or no
        texts, is that of the policy."""
        ...

    def beside(self, conditioning: Conditioning) -> Conditioning:
        """A row for each of ``conditioning``."""
        ...


class NegativePrompts:
    """The rows that guidance has beside those of prompts, each once, by their numbers.

    The row 0 is of ``default``, or of no prompt where that is None. Which of them stands beside a
    prompt is the column ``negative`` of its record, an integer; a record without has the row 0.

    Args:
        encode: what makes a row.
        name: of the pipeline's class.
        default: the negative prompt of all prompts that have none of their own.

    Raises:
        AdrpoError: a ``default`` for a model without classifier-free guidance.
    """

    def __init__(self, encode: Encode, name: str, default: str | None = None) -> None:
        self._encode = encode
        self._name = name
        nothing = encode(None)
        if default is not None:
            check_guided(name, default, guided=nothing is not None)
        row = nothing if default is None else encode(default)
        self._rows: list[Conditioning] = [] if row is None else [row]
        self._numbers: dict[str, int] = {}

    def __bool__(self) -> bool:
        """True where the model has classifier-free guidance."""
        return bool(self._rows)

    def added(
        self, found: Conditioning, texts: Sequence[str | None], rows: Sequence[Asked] = ()
    ) -> Conditioning:
        """The record ``found`` with the negative prompt of each row, None the one of row 0; it is
        the same whatever the ``rows``.

        A model without classifier-free guidance has no use for them, and a warning says so.
        """
        if not any(texts):
            return found
        if not self:
            tell_unread(self._name)
            return found
        numbers = [0 if text is None else self._number(text) for text in texts]
        negative = torch.tensor(numbers, device=next(iter(vars(found).values())).device)
        return Conditioning(**vars(found), negative=negative)

    def _number(self, text: str) -> int:
        if text not in self._numbers:
            row = self._encode(text)
            assert row is not None, "a model with classifier-free guidance"
            self._numbers[text] = len(self._rows)
            self._rows.append(row)
        return self._numbers[text]

    def beside(self, conditioning: Conditioning) -> Conditioning:
        """A row for each of ``conditioning``."""
        numbers: Tensor | None = vars(conditioning).get("negative")
        if numbers is None:
            return self._rows[0].select(torch.zeros(len(conditioning), dtype=torch.long))
        return Conditioning.cat([self._rows[number] for number in numbers.tolist()])


def check_guided(
    name: str, negative_prompt: str | None, *, guided: bool, since: str = NO_GUIDANCE
) -> None:
    """Raise AdrpoError where a run has a negative prompt, and its model, a pipeline of the class
    ``name``, is not ``guided`` by one; ``since`` says why."""
    if negative_prompt is not None and not guided:
        raise AdrpoError(
            f"prompts.{NEGATIVE}: expected null for {name}, {since}; received "
            f"{negative_prompt[:60]!r}; leave it out"
        )


def tell_unread(name: str, since: str = NO_GUIDANCE) -> None:
    """Warn that the negative prompts of a file do nothing to a pipeline of the class ``name``."""
    warnings.warn(
        f"prompts: the column {NEGATIVE} has no effect on {name}, {since}",
        AdrpoWarning,
        stacklevel=4,
    )

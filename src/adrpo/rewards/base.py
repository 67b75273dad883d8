"""The one protocol of rewards, and the terms of their sum."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from PIL.Image import Image
from torch import Tensor

Scores = Sequence[float | None]
"""One number per sample, or None for one that can't be scored."""


class Reward(Protocol):
    """Any callable that scores samples: greater is better, in whatever unit it likes.

    It is called with keywords, ``prompts`` and ``images`` (of a language model: ``completions``)
    of one length and one list of that length per further column, and returns one number per
    sample. None, NaN or an infinity says that a sample can't be scored: it is then left out of
    the training step. What a coroutine function returns is awaited.
    """

    def __call__(
        self, prompts: list[str], images: list[Image], **columns: Any
    ) -> Scores | Awaitable[Scores]: ...


@dataclass(frozen=True)
class Logistic:
    """sigmoid((r - location) / scale), in (0, 1): the logistic distribution's parameters.

    With location and scale fitted to verdicts (Platt scaling), it is the probability that a
    sample scored r is right. A score's differences among samples that are surely right, or surely
    wrong, then hardly count any more, and are no longer worth diversity. A sigmoid of the score
    as a guard against reward hacking: Wang et al., arXiv 2402.00742; Fu et al., arXiv 2502.18770.
    """

    location: float
    scale: float

    def __call__(self, values: Tensor) -> Tensor:
        return torch.sigmoid((values - self.location) / self.scale)


@dataclass(frozen=True)
class RewardTerm:
    """One summand: ``weight`` times the values of ``function``, after ``logistic`` where there is
    one. The values themselves are logged under ``name``. A call may take ``timeout`` seconds."""

    name: str
    weight: float
    function: Callable[..., Scores | Awaitable[Scores]]
    logistic: Logistic | None = None
    timeout: float | None = None

    def bounded(self, values: Tensor) -> Tensor:
        """The function's values [batch], after ``logistic`` where there is one."""
        return values if self.logistic is None else self.logistic(values)

    def contribution(self, values: Tensor) -> Tensor:
        """Summand made of the function's values [batch]."""
        return self.weight * self.bounded(values)


@dataclass(frozen=True, kw_only=True)
class RewardResult:
    """Scores of one batch.

    ``total`` [batch], float32: the weighted sum, NaN where any term has no score.
    ``by_term``: term name -> [batch], float32, as the function returned them (neither weighted nor
    squashed), NaN where the term has no score.
    ``errors``: name of each term that raised -> "term: Exception: text" of its first exception.
    """

    total: Tensor
    by_term: dict[str, Tensor]
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def first_error(self) -> str | None:
        """The first of ``errors``, or None."""
        return next(iter(self.errors.values()), None)

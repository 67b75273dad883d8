"""The one protocol of rewards, and the sum of several of them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from PIL.Image import Image
from torch import Tensor

from adrpo.errors import AdrpoError


class Reward(Protocol):
    """Any callable that scores images: greater is better, in whatever unit it likes.

    It is called with keywords, ``prompts`` and ``images`` of one length and one list of that
    length per further column, and returns one number per sample. None, NaN or an infinity says
    that a sample can't be scored: it is then left out of the training step.
    """

    def __call__(
        self, prompts: list[str], images: list[Image], **columns: Any
    ) -> Sequence[float | None]: ...


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
    one. The values themselves are logged under ``name``."""

    name: str
    weight: float
    function: Callable[..., Sequence[float | None]]
    logistic: Logistic | None = None

    def contribution(self, values: Tensor) -> Tensor:
        """What the sum gets of the function's values [batch]."""
        return self.weight * (values if self.logistic is None else self.logistic(values))


@dataclass(frozen=True, kw_only=True)
class RewardResult:
    """Scores of one batch.

    ``total`` [batch], float32: the weighted sum, NaN where any term has no score.
    ``by_term``: term name -> [batch], float32, as the function returned them (neither weighted nor
    squashed), NaN where the term has no score.
    ``first_error``: "term: Exception: text" of the first exception that a reward raised, or None.
    """

    total: Tensor
    by_term: dict[str, Tensor]
    first_error: str | None


def score(
    terms: Sequence[RewardTerm], prompts: list[str], images: list[Image], **columns: list[Any]
) -> RewardResult:
    """Total = sum over terms of weight * reward, or weight * logistic(reward), per sample.

    A term that raises is called again one sample at a time, and only the samples that raise
    alone are left without a score; the first exception's text is kept in the result.

    Raises:
        AdrpoError: a term returned another number of values than it was given samples, or
            something that is not a number; or the term itself raised AdrpoError.
        ValueError: prompts, images and columns differ in length.
    """
    for name, values in {"images": images, **columns}.items():
        if len(values) != len(prompts):
            raise ValueError(f"expected {len(prompts)} {name}, one per prompt, got {len(values)}")
    samples: dict[str, list[Any]] = {"prompts": prompts, "images": images, **columns}
    total = torch.zeros(len(prompts))
    by_term: dict[str, Tensor] = {}
    first_error: str | None = None
    for term in terms:
        try:
            values = _call(term, samples)
        except AdrpoError:
            raise
        except Exception as error:
            first_error = first_error or _describe(term, error)
            values = _call_one_by_one(term, samples)
        by_term[term.name] = values
        total = total + term.contribution(values)
    return RewardResult(total=total, by_term=by_term, first_error=first_error)


def _call_one_by_one(term: RewardTerm, samples: Mapping[str, list[Any]]) -> Tensor:
    values = torch.full((len(samples["prompts"]),), math.nan)
    for index in range(len(values)):
        try:
            one = {name: [column[index]] for name, column in samples.items()}
            values[index] = _call(term, one)[0]
        except AdrpoError:
            raise
        except Exception:
            # This sample keeps NaN, which excludes it. Its error is of the kind already recorded.
            continue
    return values


def _call(term: RewardTerm, samples: Mapping[str, list[Any]]) -> Tensor:
    """The term's values as float32, NaN where they are None or not finite."""
    returned = term.function(**samples)
    expected = len(samples["prompts"])
    try:
        values = list(returned)
    except TypeError:
        raise AdrpoError(
            f"reward {term.name!r}: expected a list of {expected} numbers, one per sample, "
            f"received {type(returned).__name__}; return a list from the reward function"
        ) from None
    if len(values) != expected:
        raise AdrpoError(
            f"reward {term.name!r}: expected {expected} values, one per sample, "
            f"received {len(values)}; return None for a sample that can't be scored"
        )
    tensor = torch.tensor([_number(term, value) for value in values], dtype=torch.float32)
    return torch.where(tensor.isfinite(), tensor, math.nan)


def _number(term: RewardTerm, value: Any) -> float:
    if value is None:
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        raise AdrpoError(
            f"reward {term.name!r}: expected a number or None for each sample, "
            f"received {value!r:.60}; return plain floats"
        ) from None


def _describe(term: RewardTerm, error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{term.name}: {type(error).__name__}: {text}"

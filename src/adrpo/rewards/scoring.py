"""The calling of rewards: one text for images and completions, for training and evaluation."""

import asyncio
import inspect
import math
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from adrpo.config.secrets import redacted
from adrpo.data.base import Prompt, columns_of
from adrpo.errors import AdrpoError
from adrpo.rewards.awaiting import Blocked, outcomes
from adrpo.rewards.base import RewardResult, RewardTerm
from adrpo.rewards.guarding import call, late, within
from adrpo.runs.processes import Processes

Samples = Mapping[str, Sequence[Any]]
"""Keyword -> one item per sample: "prompts", "images" or "completions", and the data's columns."""

NO_IMAGE = (
    "an image has pixels that are not finite: model.dtype can't hold what the model computes, or "
    "training diverged"
)
"""The reason for which a sample whose image is None has no score."""

LIBRARY = re.compile(r"[/\\](site-packages|lib[/\\]python[\d.]+|adrpo[/\\]rewards)[/\\]")
"""Path of a file in which the fault of a user's reward doesn't lie."""

RAISED = (Exception, asyncio.CancelledError)
"""A reward that raises one of these has no score for what it was asked."""


def score(terms: Sequence[RewardTerm], /, **samples: Sequence[Any]) -> RewardResult:
    """Total = sum over terms of weight * reward, or weight * logistic(reward), per sample.

        score(terms, prompts=texts, images=images, category=categories)

    A term that raises is called again one sample at a time, and only the samples that raise
    alone are left without a score; the first exception's text is kept in the result. Terms that
    are coroutine functions, or return another awaitable, are awaited together. A sample whose image
    is None, having pixels that are not finite, has no score, and no term is asked for it.

    Args:
        terms: the reward.
        samples: ``prompts`` and, of the same length, ``images`` or ``completions`` and whatever
            columns the data have.

    Raises:
        AdrpoError: a term does not take these keywords, returned another number of values than it
            was given samples, or something that is not a number; or the term itself raised
            AdrpoError.
        ValueError: the samples' columns differ in length.
    """
    count = len(samples["prompts"])
    for name, values in samples.items():
        if len(values) != count:
            raise ValueError(f"expected {count} {name}, one per prompt, got {len(values)}")
    check_takes(terms, samples)
    images = samples.get("images", ())
    if any(image is None for image in images):
        return _of_images(terms, samples, [i for i, own in enumerate(images) if own is not None])
    total = torch.zeros(count)
    by_term: dict[str, Tensor] = {}
    errors: dict[str, str] = {}
    answers = _ask([(term, samples) for term in terms])
    for term, answer in zip(terms, answers, strict=True):
        if isinstance(answer, BaseException):
            errors[term.name] = _describe(term, answer)
            answer = _one_by_one(term, samples)
        by_term[term.name] = answer
        total = total + term.contribution(answer)
    return RewardResult(total=total, by_term=by_term, errors=errors)


def _of_images(terms: Sequence[RewardTerm], samples: Samples, rows: list[int]) -> RewardResult:
    """The scores of the samples ``rows``, which have an image, and none of the others."""
    part = {name: [column[row] for row in rows] for name, column in samples.items()}
    result = score(terms, **part) if rows else None

    def whole(values: Tensor | None) -> Tensor:
        column = torch.full((len(samples["prompts"]),), math.nan)
        return column if values is None else column.index_copy(0, torch.tensor(rows), values)

    errors = {} if result is None else result.errors
    return RewardResult(
        total=whole(result and result.total),
        by_term={t.name: whole(result and result.by_term[t.name]) for t in terms},
        errors={term.name: errors.get(term.name, NO_IMAGE) for term in terms},
    )


def _one_by_one(term: RewardTerm, samples: Samples) -> Tensor:
    """The term's value of each sample for itself, NaN where it raises."""
    ones = [
        {name: [column[index]] for name, column in samples.items()}
        for index in range(len(samples["prompts"]))
    ]
    answers = _ask([(term, one) for one in ones])
    # The errors of these are of the kind already recorded.
    unscored = torch.full((1,), math.nan)
    return torch.cat([unscored if isinstance(a, BaseException) else a for a in answers])


def _ask(calls: Sequence[tuple[RewardTerm, Samples]]) -> list[Tensor | BaseException]:
    """The values of each call, or what it raised instead; AdrpoError ends all of them."""
    returned: list[Any] = []
    try:
        for term, samples in calls:
            try:
                returned.append(call(term, samples))
            except AdrpoError:
                raise
            except Exception as error:
                returned.append(error)
    except BaseException:
        for answer in returned:
            if inspect.iscoroutine(answer):
                answer.close()
        raise
    waiting = [place for place, answer in enumerate(returned) if inspect.isawaitable(answer)]
    asked = [calls[place][0] for place in waiting]
    answers = outcomes(
        [within(term, returned[place]) for term, place in zip(asked, waiting, strict=True)],
        [term.timeout for term in asked],
    )
    for place, term, outcome in zip(waiting, asked, answers, strict=True):
        if isinstance(outcome, Blocked) and term.timeout is not None:
            raise late(term)
        returned[place] = outcome
    return [
        _answer(term, answer, len(samples["prompts"]))
        for (term, samples), answer in zip(calls, returned, strict=True)
    ]


def _answer(term: RewardTerm, returned: Any, count: int) -> Tensor | BaseException:
    if isinstance(returned, BaseException):
        if isinstance(returned, AdrpoError) or not isinstance(returned, RAISED):
            raise returned
        return returned
    try:
        return _values(term, returned, count)
    except AdrpoError:
        raise
    except Exception as error:  # of a generator, which raises when it is read
        return error


def _values(term: RewardTerm, returned: Any, count: int) -> Tensor:
    """The ``count`` values as float32, NaN where they are None or not finite."""
    try:
        items = iter(returned)
    except TypeError:
        raise AdrpoError(
            f"reward {term.name!r}: expected a list of {count} numbers, one per sample, "
            f"received {type(returned).__name__}; return a list from the reward function"
        ) from None
    values = list(items)
    if len(values) != count:
        raise AdrpoError(
            f"reward {term.name!r}: expected {count} values, one per sample, "
            f"received {len(values)}; return None for a sample that can't be scored"
        )
    tensor = torch.tensor([_number(term, value) for value in values], dtype=torch.float32)
    return torch.where(tensor.isfinite(), tensor, math.nan)


def _number(term: RewardTerm, value: Any) -> float:
    if value is None:
        return math.nan
    try:
        if isinstance(value, str | bytes):  # float would read a number there
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise AdrpoError(
            f"reward {term.name!r}: expected a number or None for each sample, "
            f"received {value!r:.60}; return plain floats"
        ) from None


def _describe(term: RewardTerm, error: BaseException) -> str:
    text = redacted(" ".join(str(error).split()))
    place = _place(error)
    return f"{term.name}: {type(error).__name__}: {text}{f' ({place})' if place else ''}"


def _place(error: BaseException) -> str | None:
    """The file and line in which a reward raised: of a user's own code the innermost, where
    libraries raised; None for what was raised nowhere."""
    frames = traceback.extract_tb(error.__traceback__)[1:] or []
    own = [f for f in frames if not LIBRARY.search(f.filename)] or frames
    return f"{Path(own[-1].filename).name}, line {own[-1].lineno}" if own else None


def _refuse_misfit(term: RewardTerm, samples: Samples) -> None:
    """Raise AdrpoError where the term's function does not take the keywords of ``samples``."""
    try:
        signature = inspect.signature(term.function)
    except (TypeError, ValueError):  # Some built-in functions have none that can be read.
        return
    try:
        signature.bind(**samples)
    except TypeError as error:
        lacks = [
            name
            for name, parameter in signature.parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            and name not in samples
        ]
        advice = (
            f"give {lacks[0]!r} a default, or the data a column of that name"
            if lacks
            else "end its parameters with **columns"
        )
        raise AdrpoError(
            f"reward {term.name!r}: expected a function that takes the keywords "
            f"{', '.join(samples)}; received one that does not ({error}); {advice}"
        ) from None


def check_takes(terms: Sequence[RewardTerm], samples: Samples) -> None:
    """Raise AdrpoError where a term's function does not take the keywords of ``samples``: before
    anything is drawn, for the prompts of training as well as those of evaluations."""
    for term in terms:
        _refuse_misfit(term, samples)


def takes(term: RewardTerm, keyword: str) -> bool:
    """True where the term's function can be called with ``keyword``, as far as it tells."""
    try:
        parameters = inspect.signature(term.function).parameters
    except (TypeError, ValueError):
        return False
    named = parameters.get(keyword)
    if named is not None and named.kind != named.POSITIONAL_ONLY:
        return True
    return any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values())


# --- what a training says of its scores ---


def score_columns(result: RewardResult) -> dict[str, Any]:
    """The columns of metrics.jsonl that tell which samples of a step have scores.

    ``reward_<term>_mean`` over the samples that the term scored (NaN without any), ``samples``,
    ``samples_excluded`` and, where a term raised, ``reward_error``, its first error.
    """
    error = {} if result.first_error is None else {"reward_error": result.first_error}
    return {
        **{
            f"reward_{name}_mean": float(values[values.isfinite()].mean())
            for name, values in result.by_term.items()
        },
        "samples": len(result.total),
        "samples_excluded": int((~result.total.isfinite()).sum()),
        **error,
    }


def broken(result: RewardResult) -> str | None:
    """The failure of a whole step in which no sample has a score because a reward raised; None
    where there is a score, or where no reward raised and all said that they can't tell."""
    if result.first_error is None or result.total.isfinite().any():
        return None
    return f"the reward scored none of {len(result.total)} samples ({result.first_error})"


def require_scores(
    values: Mapping[str, Any], terms: Sequence[RewardTerm], errors: Mapping[str, str]
) -> None:
    """Raise AdrpoError where the sum of ``terms`` has no value for any sample of an evaluation.

    For the evaluation of the base: a reward that never scores anything is found before training.

    Args:
        values: name of a term -> its values of all samples, NaN where it has none.
        terms: the reward that training is to raise; none, and there is nothing to find.
        errors: name of a term -> its first error, of those that raised.
    """
    finite = [torch.as_tensor(values[term.name]).isfinite().flatten() for term in terms]
    if not finite or torch.stack(finite).all(0).any():
        return
    counts = [f"{int(own.sum())} of {term.name}" for term, own in zip(terms, finite, strict=True)]
    raised = "".join(f" ({errors[term.name]})" for term in terms if term.name in errors)
    raise AdrpoError(
        f"reward: expected scores of all terms for at least one of the {len(finite[0])} samples of "
        f"the evaluation; received {', '.join(counts)}, and no sample with all{raised}; mend the "
        f"reward, or choose data that it can score"
    )


# --- several processes ---


def score_together(
    processes: Processes,
    terms: Sequence[RewardTerm],
    images: Sequence[Image | None],
    prompts: Sequence[Prompt],
    *,
    unit: int = 1,
    opened: Callable[[Samples], Samples] = dict,
) -> RewardResult:
    """The scores of the whole batch, the same on every process.

    A process scores the images it holds. Only where the images of one prompt lie on several
    processes are they sent to the first of them and scored there in one call: a reward may
    compare the images of a prompt (``clip_novelty``).

    Args:
        processes: that hold the batch, each its share.
        terms: the reward.
        images: of this process's share.
        prompts: of all rows of the batch.
        unit: rows that no two processes share, one after another: 2 where shares are of pairs.
        opened: the prompts' columns -> what rewards are given of them, pictures for files say.
    """
    units = processes.shares(len(prompts) // unit, "samples a step")
    shares = [share.times(unit) for share in units]
    holders = [rank for rank, share in enumerate(shares) for _ in range(len(share))]
    scorers = _scorers(holders, prompts)
    own = shares[processes.rank]
    held = dict(zip(range(own.start, own.stop), images, strict=True))
    if scorers != holders:
        sent = {row: image for row, image in held.items() if scorers[row] != processes.rank}
        for parcel in processes.gather(sent):
            held |= parcel
    rows = [row for row, scorer in enumerate(scorers) if scorer == processes.rank]
    columns = columns_of(prompts)
    own_columns = {name: [values[row] for row in rows] for name, values in columns.items()}
    result = _score_rows(terms, [held[row] for row in rows], opened(own_columns))
    parts = processes.gather((rows, result))
    scored = torch.tensor([row for own, _ in parts for row in own])
    order = scored.argsort()
    assert scored[order].tolist() == list(range(len(prompts))), "each row is scored once"
    return joined([result for _, result in parts], order)


def _scorers(holders: Sequence[int], prompts: Sequence[Prompt]) -> list[int]:
    """Process that scores each row: the one with the first row of the same prompt."""
    first: dict[str, int] = {}
    for prompt, holder in zip(prompts, holders, strict=True):
        first.setdefault(prompt.text, holder)
    return [first[prompt.text] for prompt in prompts]


def _score_rows(
    terms: Sequence[RewardTerm], images: list[Image | None], columns: Samples
) -> RewardResult:
    if not images:  # No reward is asked for nothing: not all of them can answer that.
        none = torch.empty(0)
        return RewardResult(total=none, by_term={t.name: none for t in terms})
    return score(terms, images=images, **columns)


def joined(parts: Sequence[RewardResult], order: Tensor | None = None) -> RewardResult:
    """The results of several processes as one, ``order`` [batch] putting their rows in order."""

    def whole(columns: Sequence[Tensor]) -> Tensor:
        rows = torch.cat(list(columns))
        return rows if order is None else rows[order]

    errors: dict[str, str] = {}
    for part in parts:
        errors = part.errors | errors
    return RewardResult(
        total=whole([part.total for part in parts]),
        by_term={name: whole([p.by_term[name] for p in parts]) for name in parts[0].by_term},
        errors={name: errors[name] for name in parts[0].by_term if name in errors},
    )

"""Sums of rewards of unlike scale: each term is normalised before it is weighed."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from adrpo.core.advantages import group_advantages

RewardNormalization = Literal["none", "group", "running"]

Moments = Mapping[str, Any]
"""Memory of ``running``, plain numbers: ``count`` of the samples so far, and of each term their
``mean``, the sum of their squared distances to it (``squares``), and their ``greatest`` magnitude.
{} at first."""


@torch.no_grad()
def normalize_then_sum(
    values: Float[Tensor, "terms batch"],
    weights: Float[Tensor, " terms"],
    group_ids: Int[Tensor, " batch"],
    moments: Moments,
    *,
    normalization: RewardNormalization,
) -> tuple[Float[Tensor, " batch"], Moments]:
    """R_i = sum over terms k of w_k z_ki, with z_k the values of term k, normalised by themselves.

        none     z_ki = r_ki
        group    z_ki = (r_ki - mean of the group) / standard deviation of the group
        running  z_ki = (r_ki - mean) / standard deviation, of all samples so far

    ``group`` is the decoupled normalisation of GDPO (arXiv 2601.05242), which TRL calls
    ``normalize_then_sum``: a term counts by the order that it puts a prompt's samples in, and the
    weights say how much, whatever the terms' units. With advantages that are divided by the
    deviation of the whole batch it is GDPO's. ``running`` divides by one number for all prompts, of
    the run's samples so far with those of this batch, so that a prompt whose samples differ little
    in a term goes on counting little in it. All deviations are of the population.

    A sample that one term has no value for (not finite) has no sum, NaN, and is in no mean and no
    deviation, of no term. A term that is constant there, up to the rounding of its values, gives 0.

    Args:
        values: r, a row for each term.
        weights: w; a negative one lowers its term.
        group_ids: integers; samples with equal ids are of one prompt.
        moments: of the batches before, which ``running`` alone reads.
        normalization: which of the three.

    Returns:
        R, in float32 (float64 stays float64), and the moments with those of this batch.

    Raises:
        ValueError: ``normalization`` is none of the three, or ``moments`` are of another number of
            terms.

    >>> r, w, one = torch.tensor([[1.0, 3.0], [9e2, 1e2]]), torch.tensor([1.0, 0.5]), torch.zeros(2)
    >>> normalize_then_sum(r, w, one.int(), {}, normalization="group")
    (tensor([-0.5000,  0.5000]), {})
    """
    if normalization not in get_args(RewardNormalization):
        raise ValueError(
            f"expected normalization 'none', 'group' or 'running', received {normalization!r}"
        )
    complete = values.isfinite().all(0)
    known = torch.where(complete, values, torch.nan)
    if normalization == "running":
        moments = _observed(known[:, complete], moments)
        known = _standardized(known, moments)
    elif normalization == "group":
        of_terms = [group_advantages(term, group_ids, scale="group") for term in known]
        known = torch.where(complete, torch.stack(of_terms), torch.nan)
    dtype = torch.promote_types(values.dtype, torch.float32)
    total = torch.zeros(values.shape[1], dtype=dtype)
    for weight, term in zip(weights.to(dtype), known.to(dtype), strict=True):
        total = total + weight * term
    return total, moments


def _observed(values: Float[Tensor, "terms batch"], moments: Moments) -> Moments:
    """``moments`` with those of ``values``: Chan, Golub and LeVeque's merging of two samples, in
    float64, so that a long run loses nothing."""
    terms, fresh = values.shape
    mean, squares, greatest = (
        torch.tensor(moments.get(name, [0.0] * terms), dtype=torch.float64)
        for name in ("mean", "squares", "greatest")
    )
    if len(mean) != terms:
        raise ValueError(f"expected moments of {terms} terms, received those of {len(mean)}")
    count = moments.get("count", 0)
    if fresh:
        values = values.double()
        # Measured from the least value, equal ones have exactly their own mean.
        least = values.amin(1, keepdim=True)
        fresh_mean = (least + (values - least).mean(1, keepdim=True)).squeeze(1)
        apart = fresh_mean - mean
        inside = (values - fresh_mean[:, None]).square().sum(1)
        between = apart.square() * (count * fresh / (count + fresh))
        mean = mean + apart * (fresh / (count + fresh))
        squares = squares + inside + between
        greatest = torch.maximum(greatest, values.abs().amax(1))
        count += fresh
    named = {"mean": mean, "squares": squares, "greatest": greatest}
    return {"count": count} | {name: list(map(float, each)) for name, each in named.items()}


def _standardized(
    values: Float[Tensor, "terms batch"], moments: Moments
) -> Float[Tensor, "terms batch"]:
    """``values`` less their mean, in standard deviations; 0 for a term without any spread."""
    mean, squares, greatest = (
        torch.tensor(moments[name], dtype=torch.float64)[:, None]
        for name in ("mean", "squares", "greatest")
    )
    deviation = (squares / max(moments["count"], 1)).sqrt()
    noise = deviation <= torch.finfo(values.dtype).eps * greatest
    above = torch.where(noise & values.isfinite(), 0, values.double() - mean)
    return above / torch.where(noise, 1, deviation)

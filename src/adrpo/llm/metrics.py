"""Sums behind the logged metrics, so that processes can add theirs."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from adrpo.core import token_kl
from adrpo.llm.penalty import PerSampleBeta

KL_SUMS = (
    "weighted_kl",
    "tokens",
    "kl",
    "kl_tokens",
    "kl_pos",
    "kl_pos_tokens",
    "kl_neg",
    "kl_neg_tokens",
    "stock_kl",
)


@torch.no_grad()
def kl_sums(
    penalty: PerSampleBeta, advantages: Float[Tensor, " rows *tokens"]
) -> Float[Tensor, " sums"]:
    """Sums over the tokens of one loss, in the order of ``KL_SUMS``.

    ``weighted_kl`` (beta times KL) is over all tokens, since a row without a reference has beta 0;
    the KLs are over the rows that have one. ``kl_pos`` and ``kl_neg`` are those with A > 0 and
    A < 0; ``stock_kl`` is TRL's own number.
    """
    assert penalty.stock_kl is not None
    logps, reference = penalty.log_probabilities()
    kl = token_kl(logps, reference, estimator=penalty.estimator, bound=penalty.bound)
    tokens = penalty.mask().bool()
    rows = penalty.batch.get("reference_rows")
    measured = tokens if rows is None else tokens & rows.unsqueeze(1)
    advantages = advantages if advantages.ndim == 2 else advantages.unsqueeze(1)
    sums = [(penalty.coefficient * kl)[tokens].sum(), tokens.sum()]
    for side in (measured, measured & (advantages > 0), measured & (advantages < 0)):
        sums += [kl[side].sum(), side.sum()]
    sums.append(penalty.stock_kl[measured].sum())
    return torch.stack([value.to(kl.dtype) for value in sums])


@torch.no_grad()
def coefficient_metrics(
    accelerator: Any, advantages: Tensor, coefficient: Tensor, rows: Tensor, *, clip: float
) -> dict[str, float]:
    """Metrics of ``coefficient`` over the samples of a generated batch on all processes, by their
    names in the log; ``rows`` are those of the reference pass, ``clip`` that of the advantages."""
    saturated = advantages.abs() >= clip
    counted = [coefficient, saturated, coefficient < 0, torch.ones_like(coefficient)]
    counted += [rows, torch.ones_like(rows)]
    sums = torch.stack([values.float().sum() for values in counted])
    total, saturations, negatives, count, referred, samples = accelerator.reduce(
        sums, reduction="sum"
    ).tolist()
    extremes = torch.stack([coefficient.amin(), -coefficient.amax()])[None]
    low, high = accelerator.gather(extremes).amin(dim=0).tolist()
    return {
        "coef_mean": total / count,
        "coef_min": low,
        "coef_max": -high,
        "saturated_frac": saturations / count,
        "frac_negative_coef": negatives / count,
        "reference_frac": referred / samples,
    }


def mean_of(total: float, count: float) -> float:
    """The mean of ``count`` values that sum to ``total``; NaN of none."""
    return total / count if count else float("nan")

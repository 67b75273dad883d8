"""Sums behind the logged KL metrics, so that processes can add theirs."""

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

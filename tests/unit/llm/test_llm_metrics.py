"""The KL that is logged: of tokens that the policy wrote, by the sign of A, never of padding."""

import pytest
import torch

from adrpo.llm.metrics import KL_SUMS, kl_sums
from adrpo.llm.penalty import PerSampleBeta
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS

# k2 of a token is the half square of its log-ratio: 0.5 d^2.
RATIOS = torch.tensor([[0.2, -0.4, 9.0], [0.6, 9.0, 9.0], [-1.0, 0.8, 0.4]])
MASK = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]])
ADVANTAGES = torch.tensor([1.0, -1.0, 0.5])
BETA = torch.tensor([0.1, 0.3, 0.0])
KL = [[0.02, 0.08], [0.18], [0.5, 0.32, 0.08]]


def sums(rows: torch.Tensor | None = None) -> dict[str, float]:
    batch = {"completion_mask": MASK, "ref_per_token_logps": RATIOS - 2.0}
    if rows is not None:
        batch["reference_rows"] = rows
    penalty = PerSampleBeta(batch, BETA, estimator="k2", bound=None, correction=None)
    penalty.logps = torch.full_like(RATIOS, -2.0)
    penalty.stock_kl = torch.full_like(RATIOS, 3.0)
    found = kl_sums(penalty, ADVANTAGES)
    return dict(zip(KL_SUMS, found.tolist(), strict=True))


def test_padding_is_in_no_sum() -> None:
    found = sums()
    assert found["tokens"] == found["kl_tokens"] == 6
    assert found["kl"] == pytest.approx(sum(map(sum, KL)))
    assert found["weighted_kl"] == pytest.approx(0.1 * sum(KL[0]) + 0.3 * sum(KL[1]))
    assert found["stock_kl"] == 18
    # A > 0 in the first and the last row, A < 0 in the second.
    assert found["kl_pos_tokens"] == 5 and found["kl_neg_tokens"] == 1
    assert found["kl_pos"] == pytest.approx(sum(KL[0]) + sum(KL[2]))
    assert found["kl_neg"] == pytest.approx(sum(KL[1]))


def test_a_row_without_a_reference_is_in_the_weighted_sum_alone() -> None:
    """Its coefficient is 0 there."""
    found = sums(torch.tensor([True, True, False]))
    assert (found["tokens"], found["kl_tokens"]) == (6, 3)
    assert found["kl"] == pytest.approx(sum(KL[0]) + sum(KL[1]))
    assert found["kl_pos_tokens"] == 2 and found["stock_kl"] == 9

"""The coefficient of a sample's KL, and the controller of beta_0."""

from typing import Any

import pytest
import torch

from adrpo import adaptive_coefficient
from adrpo.core.controller import controlled
from adrpo.llm.coefficient import degenerate_rows, kl_coefficient
from adrpo.llm.controller import KLController
from support.tiny_language_trainers import LANGUAGE_MARKS, NAN

pytestmark = LANGUAGE_MARKS


# --- the coefficient ---


def test_coefficients_of_each_kind() -> None:
    advantages = torch.tensor([-1.5, -0.03, 0.0, 0.01, 1.5])

    def coefficients(kind: Any, clip: float = 0.04, floor: bool = False) -> list[float]:
        received = kl_coefficient(advantages, kind=kind, beta_0=0.04, clip=clip, floor=floor)
        return [round(value, 7) for value in received.tolist()]

    assert coefficients("adaptive") == [0.08, 0.07, 0.04, 0.03, 0.0]
    assert coefficients("adaptive", clip=0.02) == [0.06, 0.06, 0.04, 0.03, 0.02]
    assert coefficients("adaptive", clip=0.08) == [0.12, 0.07, 0.04, 0.03, -0.04]
    assert coefficients("adaptive", clip=0.08, floor=True) == [0.12, 0.07, 0.04, 0.03, 0.0]
    assert coefficients("sign_gated") == [0.08, 0.08, 0.04, 0.0, 0.0]
    assert coefficients("fixed") == [0.04] * 5
    # CRD's: 1e-4 + 0.0399 r with r = (A / 2 + 1) / 2.
    rising = [1e-4 + 0.0399 * r for r in (0.125, 0.4925, 0.5, 0.5025, 0.875)]
    assert coefficients("reward_adaptive", clip=2.0) == pytest.approx(rising, abs=1e-7)


@pytest.mark.parametrize("beta_0", [0.04, 1 / 3])
def test_standardised_advantages_make_adaptive_the_sign_gate_exactly(beta_0: float) -> None:
    advantages = torch.tensor([-1.2, -0.4, 0.0, 0.4, 1.2])
    adaptive, gated = (
        kl_coefficient(advantages, kind=kind, beta_0=beta_0, clip=beta_0, floor=False)
        for kind in ("adaptive", "sign_gated")
    )
    # One rounding of beta_0 in float32; the zeros, which decide what is skipped, are exact.
    torch.testing.assert_close(adaptive, gated, rtol=1e-7, atol=0)
    assert adaptive[3:].tolist() == gated[3:].tolist() == [0.0, 0.0]


def test_coefficients_per_token_are_those_of_each_token() -> None:
    advantages = torch.tensor([[0.5, -0.01], [0.0, 0.02]], requires_grad=True)
    received = kl_coefficient(advantages, kind="adaptive", beta_0=0.04, clip=0.03, floor=False)
    expected = adaptive_coefficient(advantages.flatten(), beta_0=0.04, clip=(-0.03, 0.03))
    assert torch.equal(received.flatten(), expected)
    assert not received.requires_grad


def test_groups_without_variance() -> None:
    groups = [[1.0, 1.0, 2.0], [0.3, 0.3, 0.3], [NAN, 5.0, 5.0], [NAN] * 3, [NAN, 4.0, 5.0]]
    rewards = torch.tensor(groups).reshape(-1, 1)
    received = degenerate_rows(rewards, group_size=3).view(-1, 3)
    assert received.any(1).tolist() == [False, True, True, True, False]
    assert torch.equal(received.any(1), received.all(1))
    # Each reward by itself: the second alone tells the samples apart.
    both = torch.cat([torch.ones(3, 1), torch.tensor([[1.0], [2.0], [3.0]])], dim=1)
    assert not degenerate_rows(both, group_size=3).any()


def test_the_controller_follows_the_law_of_flow_models() -> None:
    controller = KLController(0.04, target=0.1)
    beta_0 = 0.04
    for kl in (0.0, 0.09, 0.1, 0.11, 5.0):
        controller.observe(kl * 30, 30)
        controller.observe(kl * 10, 10)
        controller.move()
        beta_0 = controlled(beta_0, divergence=kl, target=0.1)
        # float64: sums of two products.
        assert controller.beta_0 == pytest.approx(beta_0, rel=1e-12)
    controller.move()
    assert controller.beta_0 == pytest.approx(beta_0, rel=1e-12), "moved without a measurement"
    assert KLController(0.04, target=None).beta_0 == 0.04

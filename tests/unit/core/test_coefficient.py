"""The adaptive coefficient beta_0 - A."""

import pytest
import torch

from adrpo import adaptive_coefficient, clip_advantages

ADVANTAGES = torch.tensor([-9.0, -1.0, -0.25, 0.0, 0.5, 1.0, 9.0])


def test_better_samples_are_held_less() -> None:
    beta = adaptive_coefficient(ADVANTAGES, beta_0=1.0, clip=(-1.0, 1.0))
    assert beta.tolist() == [2.0, 2.0, 1.25, 1.0, 0.5, 0.0, 0.0]


def test_without_clipping_the_coefficient_may_be_negative() -> None:
    beta = adaptive_coefficient(ADVANTAGES, beta_0=1.0, clip=None)
    assert beta.tolist() == [10.0, 2.0, 1.25, 1.0, 0.5, 0.0, -8.0]


@pytest.mark.parametrize("beta_0", [0.04, 0.1, 1 / 3, 1.0])
def test_clipping_here_or_before_is_the_same_and_reaches_zero_exactly(beta_0: float) -> None:
    clipped = clip_advantages(ADVANTAGES, low=-beta_0, high=beta_0)
    beta = adaptive_coefficient(ADVANTAGES, beta_0=beta_0, clip=(-beta_0, beta_0))
    assert torch.equal(beta, adaptive_coefficient(clipped, beta_0=beta_0, clip=None))
    # 0.04 is no binary number, yet the best samples must be freed entirely.
    assert beta[-1] == 0
    assert beta.min() == 0


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_precision(received: torch.dtype, expected: torch.dtype) -> None:
    beta = adaptive_coefficient(ADVANTAGES.to(received), beta_0=0.3, clip=(-0.2, 0.2))
    assert beta.dtype == expected
    # 0.1 as the difference of two rounded numbers: within one float32 rounding, not bfloat16's.
    assert beta[-1].item() == pytest.approx(0.1, abs=1e-7)


def test_no_gradient_flows_into_advantages() -> None:
    advantages = ADVANTAGES.clone().requires_grad_()
    assert not adaptive_coefficient(advantages, beta_0=1.0, clip=None).requires_grad
    assert not adaptive_coefficient(advantages, beta_0=1.0, clip=(-1.0, 1.0)).requires_grad


@pytest.mark.parametrize("beta_0", [0.0, -0.5])
def test_beta_0_must_be_positive(beta_0: float) -> None:
    with pytest.raises(ValueError, match="beta_0 > 0"):
        adaptive_coefficient(ADVANTAGES, beta_0=beta_0, clip=None)


def test_the_clip_must_be_an_interval() -> None:
    with pytest.raises(ValueError, match="low <= high"):
        adaptive_coefficient(ADVANTAGES, beta_0=1.0, clip=(1.0, -1.0))

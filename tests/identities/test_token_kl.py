"""Estimators of the token KL against exact enumeration: value, gradient, extreme log-ratios."""

import math
from functools import partial
from typing import Literal

import pytest
import torch
from torch import Tensor

from adrpo import token_kl

Estimator = Literal["k1", "k2", "k3"]
ESTIMATORS: list[Estimator] = ["k1", "k2", "k3"]
VOCABULARY = 7

# float64: sums of seven products of size 1; 1e-14 is some fifty roundings.
assert_equal = partial(torch.testing.assert_close, rtol=0, atol=1e-14)


def distributions(spread: float = 1.0) -> tuple[Tensor, Tensor]:
    """Logits of the policy, which carry the gradient, and log-probabilities of the reference."""
    generator = torch.Generator().manual_seed(3)
    theta = spread * torch.randn(VOCABULARY, generator=generator, dtype=torch.float64)
    reference = spread * torch.randn(VOCABULARY, generator=generator, dtype=torch.float64)
    return theta.requires_grad_(), reference.log_softmax(0)


def expectation(per_token: Tensor, theta: Tensor) -> Tensor:
    """E over tokens drawn from pi, by enumeration; as in training the draw has no gradient."""
    return (theta.softmax(0).detach() * per_token.squeeze(0)).sum()


def every_token(theta: Tensor, reference: Tensor, estimator: Estimator) -> Tensor:
    return token_kl(theta.log_softmax(0)[None], reference[None], estimator=estimator)


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum()


def gradient(value: Tensor, theta: Tensor) -> Tensor:
    (result,) = torch.autograd.grad(value, theta)
    return result


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_k1_and_k3_have_the_kl_as_their_mean(estimator: Estimator) -> None:
    theta, reference = distributions()
    mean = expectation(every_token(theta, reference, estimator), theta)
    exact = kl(theta.log_softmax(0), reference)
    assert exact > 0.1
    assert_equal(mean, exact)


def test_k2_has_the_kl_as_its_mean_to_second_order() -> None:
    def relative_error(spread: float) -> float:
        theta, reference = distributions(spread)
        mean = expectation(every_token(theta, reference, "k2"), theta)
        return (mean / kl(theta.log_softmax(0), reference) - 1).abs().item()

    # The KL is of second order in the spread and k2's bias of third: a tenth of the one is a tenth
    # of the relative other, up to the next order, which is a tenth again.
    assert relative_error(0.01) > 1e-5
    assert relative_error(0.01) / relative_error(0.1) == pytest.approx(0.1, rel=0.2)


def test_expected_gradients_are_what_the_docstring_says() -> None:
    theta, reference = distributions()
    policy = theta.log_softmax(0)
    of_the_policy = gradient(kl(policy, reference), theta)
    of_the_reference = gradient(kl(reference, theta.log_softmax(0)), theta)
    assert (of_the_policy - of_the_reference).abs().max() > 0.1

    expected = {
        "k1": torch.zeros_like(theta),
        "k2": of_the_policy,
        "k3": of_the_reference,
    }
    for estimator in ESTIMATORS:
        mean = expectation(every_token(theta, reference, estimator), theta)
        assert_equal(gradient(mean, theta), expected[estimator])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_ratio_brings_the_gradient_of_the_draws(estimator: Estimator) -> None:
    theta, reference = distributions()
    logps = theta.log_softmax(0)
    ratio = (logps - logps.detach()).exp()
    mean = expectation(ratio * every_token(theta, reference, estimator), theta)
    received = gradient(mean, theta)
    # The same mean with the probabilities as functions of theta.
    drawn = (theta.softmax(0) * every_token(theta, reference, estimator).squeeze(0)).sum()
    assert_equal(received, gradient(drawn, theta))
    if estimator != "k2":
        exact = gradient(kl(theta.log_softmax(0), reference), theta)
        assert_equal(received, exact)


def test_the_gradient_of_one_token() -> None:
    logps = torch.tensor([[-1.0, -2.0]], dtype=torch.float64, requires_grad=True)
    ref_logps = torch.tensor([[-3.0, -1.5]], dtype=torch.float64, requires_grad=True)
    x = (ref_logps - logps).detach()
    expected = {"k1": torch.ones_like(x), "k2": -x, "k3": 1 - x.exp()}
    for estimator in ESTIMATORS:
        value = token_kl(logps, ref_logps, estimator=estimator).sum()
        received, of_the_reference = torch.autograd.grad(
            value, [logps, ref_logps], allow_unused=True
        )
        assert_equal(received, expected[estimator])
        assert of_the_reference is None


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_extreme_log_ratios_stay_finite(estimator: Estimator) -> None:
    # e^x overflows float32 from 88.7 on.
    logps = torch.tensor([[-1e4, -200.0, -0.5, 0.0, -torch.inf]], requires_grad=True)
    ref_logps = torch.tensor([[-0.5, 0.0, -200.0, -torch.inf, -0.5]])
    values = token_kl(logps, ref_logps, estimator=estimator)
    assert values.isfinite().all()
    (received,) = torch.autograd.grad(values.sum(), logps)
    # Beyond the bound a token is a constant.
    assert received.tolist() == [[0.0] * 5]
    assert values.max() <= math.exp(20) - 20


def test_without_a_bound_they_do_not() -> None:
    logps = torch.tensor([[-200.0]], requires_grad=True)
    assert token_kl(logps, torch.zeros(1, 1), bound=None).isinf().all()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_within_the_bound_it_changes_nothing(estimator: Estimator) -> None:
    generator = torch.Generator().manual_seed(0)
    logps, ref_logps = torch.randn(2, 4, 6, generator=generator).requires_grad_()
    greatest = (ref_logps - logps).abs().max().item()
    bounded = token_kl(logps, ref_logps, estimator=estimator, bound=greatest)
    free = token_kl(logps, ref_logps, estimator=estimator, bound=None)
    assert torch.equal(bounded, free)


def test_k3_keeps_its_digits_near_the_reference() -> None:
    x = torch.tensor([[1e-4, -1e-4, 3e-6]])
    exact = x.double().square() / 2 + x.double() ** 3 / 6
    error = (token_kl(torch.zeros(1, 3), x).double() - exact).abs()
    # One rounding of a number of x's size. e^x - x - 1 as it stands has roundings of numbers of
    # size 1: 6e-8, which is more than the values themselves.
    assert (error <= torch.finfo(torch.float32).eps * x.abs()).all()


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_precision(received: torch.dtype, expected: torch.dtype) -> None:
    logps = torch.tensor([[-0.75]], dtype=received)
    value = token_kl(logps, torch.tensor([[-0.5]], dtype=received), estimator="k3")
    assert value.dtype == expected
    # Both numbers are exact in bfloat16; one rounding of float32 is left.
    assert value.item() == pytest.approx(math.exp(0.25) - 1.25, rel=1e-6)


def test_the_bound_must_be_positive() -> None:
    zeros = torch.zeros(1, 1)
    with pytest.raises(ValueError, match="bound > 0"):
        token_kl(zeros, zeros, bound=0.0)

"""Distances between the policy and its reference."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

KLEstimator = Literal["k1", "k2", "k3"]


def velocity_divergence(
    v: Float[Tensor, "batch dim *dims"], v_ref: Float[Tensor, "batch dim *dims"]
) -> Float[Tensor, " batch"]:
    """D = |v - v_ref|^2, the mean square over a sample's elements (eq. 6, arXiv 2510.18053).

    Its mean over t and x_t bounds the squared Wasserstein-2 distance between what the two flows
    generate, up to a constant that grows with the velocity's Lipschitz constant.

    ``v_ref`` is a constant: no gradient reaches it. The gradient for v is 2 (v - v_ref) / n, with
    n the number of elements of one sample.

    Returns:
        One value per sample, in float32 (float64 where v is float64).
    """
    dtype = torch.promote_types(v.dtype, torch.float32)
    return (v.to(dtype) - v_ref.detach().to(dtype)).square().flatten(1).mean(1)


def token_kl(
    logps: Float[Tensor, "batch tokens"],
    ref_logps: Float[Tensor, "batch tokens"],
    *,
    estimator: KLEstimator = "k3",
    bound: float | None = 20.0,
) -> Float[Tensor, "batch tokens"]:
    """Estimates of KL(pi || pi_ref), one per sampled token, in nats.

    With the log-ratio x = log pi_ref - log pi, clamped to [-bound, bound] first,

        k1 = -x              unbiased, of either sign
        k2 = x^2 / 2         biased, >= 0
        k3 = e^x - x - 1     unbiased, >= 0

    (Schulman, "Approximating KL divergence", 2020). Value and gradient are different matters: the
    expected gradient of an estimator is not the gradient of its expectation, since the tokens were
    drawn from pi. Over tokens of pi, with s = grad log pi, it is

        k1: E[s] = 0                    no penalty at all, noise alone
        k2: E[-x s] = grad KL(pi || pi_ref)
        k3: E[(1 - e^x) s] = grad KL(pi_ref || pi), the other direction

    Times the ratio pi / pi_old, which is 1 on policy but has the gradient s, k1 and k3 have the
    gradient of KL(pi || pi_ref).

    The clamp stands before the exponential: clamping e^x leaves 0 * inf = NaN in the gradient. A
    token beyond the bound counts with a constant and has gradient 0. Under a negative coefficient
    k3 would be unbounded below; with the clamp it is at most e^bound - bound - 1, which a bound of
    20 still leaves at 5e8.

    Args:
        logps: log pi of the sampled tokens.
        ref_logps: log pi_ref of the same tokens; a constant, no gradient reaches it.
        estimator: which of the three.
        bound: greatest |x|, in nats; None for no bound.

    Returns:
        One value per token, in float32 (float64 where ``logps`` is float64).

    Raises:
        ValueError: ``estimator`` is none of the three, or ``bound`` is not positive.
    """
    if bound is not None and bound <= 0:
        raise ValueError(f"expected bound > 0 or None, received {bound}")
    dtype = torch.promote_types(logps.dtype, torch.float32)
    log_ratio = ref_logps.detach().to(dtype) - logps.to(dtype)
    if bound is not None:
        log_ratio = log_ratio.clamp(-bound, bound)
    if estimator == "k1":
        return -log_ratio
    if estimator == "k2":
        return log_ratio.square() / 2
    if estimator == "k3":
        # Near x = 0 the value is x^2 / 2, which e^x - 1 - x would lose to rounding.
        return log_ratio.expm1() - log_ratio
    raise ValueError(f"expected estimator 'k1', 'k2' or 'k3', received {estimator!r}")

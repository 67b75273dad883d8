"""Solvers of d x / d t = v(x, t) from noise (t = 0) to data (t = 1), and guidance.

A velocity is a callable v(x, t) with x [batch, ...] and t [batch]. Solvers keep x in the dtype of
x_0; give float32 noise also where the model computes in bfloat16.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from adrpo.core.placement import sent

Velocity = Callable[[Tensor, Tensor], Tensor]


def euler(
    velocity: Velocity, x_0: Float[Tensor, " batch *dims"], times: Float[Tensor, " points"]
) -> Float[Tensor, " batch *dims"]:
    """x <- x + (t' - t) v(x, t): first order, one evaluation per interval.

    Args:
        velocity: v(x, t).
        x_0: noise, at times[0].
        times: increasing, within [0, 1]; n + 1 times make n intervals.

    Returns:
        The sample, at times[-1].
    """
    x = x_0
    for t, t_next in pairwise(sent(times, x_0.device)):
        v = velocity(x, t.expand(len(x))).to(x.dtype)
        x = x + (t_next - t).to(x.dtype) * v
    return x


def heun(
    velocity: Velocity, x_0: Float[Tensor, " batch *dims"], times: Float[Tensor, " points"]
) -> Float[Tensor, " batch *dims"]:
    """x <- x + (t' - t) (v(x, t) + v(x', t')) / 2 with x' = x + (t' - t) v(x, t).

    Second order (the explicit trapezoidal rule), two evaluations per interval, both at its ends:
    the last one is at times[-1] and none lies outside the grid. Arguments as for ``euler``.
    """
    x = x_0
    for t, t_next in pairwise(sent(times, x_0.device)):
        step = (t_next - t).to(x.dtype)
        v = velocity(x, t.expand(len(x))).to(x.dtype)
        v_next = velocity(x + step * v, t_next.expand(len(x))).to(x.dtype)
        x = x + step * (v + v_next) / 2
    return x


def dpmpp_2m(
    velocity: Velocity, x_0: Float[Tensor, " batch *dims"], times: Float[Tensor, " points"]
) -> Float[Tensor, " batch *dims"]:
    """DPM-Solver++(2M), midpoint form: second order, one evaluation per interval.

    With the predicted data D = x + (1 - t) v(x, t) and lambda = log(t / (1 - t)), half the log of
    the signal-to-noise ratio, an interval from t to t' that follows one from t_ is

        x <- x + (t' - t) (v + (D - D_) / (1 - t) * (lambda' - lambda) / (2 (lambda - lambda_)))

    which is Euler's step and a correction by the last change of D (Lu et al., arXiv 2211.01095,
    algorithm 2, for alpha = t and sigma = 1 - t). Where a lambda is infinite, after an interval
    from t_ = 0 and before t' = 1, the step is Euler's. Arguments as for ``euler``.
    """
    x, last_data, last_h = x_0, None, float("inf")
    grid = sent(times, x_0.device)
    half_log_snr = torch.logit(times.double()).tolist()
    for (t, t_next), (lam, lam_next) in zip(pairwise(grid), pairwise(half_log_snr), strict=True):
        v = velocity(x, t.expand(len(x))).to(x.dtype)
        data, h = x + (1 - t).to(x.dtype) * v, lam_next - lam
        step = (t_next - t).to(x.dtype) * v
        if last_data is not None and math.isfinite(lam_next):
            share = (t_next - t) / (1 - t) * h / (2 * last_h)
            step = step + share.to(x.dtype) * (data - last_data)
        x, last_data, last_h = x + step, data, h
    return x


SOLVERS: dict[str, Callable[[Velocity, Tensor, Tensor], Tensor]] = {
    "euler": euler,
    "heun": heun,
    "dpmpp_2m": dpmpp_2m,
}


def guided(
    v_cond: Float[Tensor, " batch *dims"], v_uncond: Float[Tensor, " batch *dims"], scale: float
) -> Float[Tensor, " batch *dims"]:
    """Classifier-free guidance: v_uncond + scale (v_cond - v_uncond).

    Scale 1 is no guidance and 0 ignores the prompt, both only up to rounding: a caller that has
    guidance off leaves the unconditional evaluation out.
    """
    return v_uncond + scale * (v_cond - v_uncond)

"""A flow known exactly: Gaussian mixtures on the straight path, and ADRPO's minimiser over them.

Data x_1 ~ p_1 = sum_k w_k N(mu_k, s^2 I), noise x_0 ~ N(0, I), and x_t = (1 - t) x_0 + t x_1 as in
``adrpo.flow.path.convention``. What a network learns elsewhere is a formula or a finite sum here,
so fact 4 of docs/method/equations.md can be computed where training only approaches it. No
trainer uses this module.

Results have the dtype of x; pass mixtures and points of one dtype.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK = 2**20
"""Pairs (x, x_1) that ``adrpo_minimiser`` takes at a time: memory and speed, never the result."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """sum_k w_k N(mu_k, s^2 I): ``means`` mu [modes, dim], ``weights`` w [modes], which sum to 1,
    and one ``std`` s > 0 for all modes and directions."""

    means: Float[Tensor, "modes dim"]
    weights: Float[Tensor, " modes"]
    std: float


def ring(
    *, modes: int = 8, radius: float = 2.0, std: float = 0.3, dtype: torch.dtype = torch.float64
) -> Mixture:
    """Equal modes on a circle: mu_k = radius (cos 2 pi k / modes, sin 2 pi k / modes)."""
    angle = 2 * math.pi * torch.arange(modes, dtype=torch.float64) / modes
    means = radius * torch.stack([angle.cos(), angle.sin()], dim=1)
    weights = torch.full((modes,), 1 / modes, dtype=dtype)
    return Mixture(means=means.to(dtype), weights=weights, std=std)


def sample_mixture(
    mixture: Mixture, count: int, generator: torch.Generator
) -> Float[Tensor, "count dim"]:
    """Independent draws x_1 ~ p_1."""
    modes = torch.multinomial(mixture.weights, count, replacement=True, generator=generator)
    means = mixture.means[modes]
    noise = torch.randn(means.shape, generator=generator, dtype=means.dtype)
    return means + mixture.std * noise


def reward_tilted(mixture: Mixture, direction: Float[Tensor, " dim"]) -> Mixture:
    """p*(x) = p_1(x) exp(d . x) / Z, the mixture that a linear reward makes of another.

    With d = e / lambda it maximises E[e . x] - lambda KL(p || p_1) over all p, and so has the least
    KL divergence from p_1 at its own mean reward. Completing the square in each mode:

        mu_k <- mu_k + s^2 d        w_k <- w_k exp(mu_k . d + s^2 |d|^2 / 2) / Z
    """
    # The term s^2 |d|^2 / 2 is the same for all modes: softmax divides it out with Z.
    weights = (mixture.weights.log() + mixture.means @ direction).softmax(0)
    means = mixture.means + mixture.std**2 * direction
    return Mixture(means=means, weights=weights, std=mixture.std)


def path_log_density(
    mixture: Mixture, x: Float[Tensor, "batch dim"], t: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """log p_t(x), with p_t = sum_k w_k N(t mu_k, sigma_t^2 I), sigma_t^2 = (1 - t)^2 + t^2 s^2.

    t = 0 is the noise's density, t = 1 the data's. In nats.
    """
    variance = _path_variance(mixture, t)
    common = x.square().sum(1) / (2 * variance) + x.shape[1] / 2 * (2 * math.pi * variance).log()
    return _mode_logits(mixture, x, t).logsumexp(1) - common


def path_velocity(
    mixture: Mixture, x: Float[Tensor, "batch dim"], t: Float[Tensor, " batch"]
) -> Float[Tensor, "batch dim"]:
    """v(x, t) = E[x_1 - x_0 | x_t = x], the minimiser of the flow-matching loss.

    Within a mode x_t and u_t = x_1 - x_0 are jointly Gaussian, so that with the posterior of the
    modes p(k | x_t), and with c_t = Cov(u_t, x_t) / Var(x_t) in each direction,

        v(x, t) = sum_k p(k | x_t = x) (mu_k + c_t (x - t mu_k))
        c_t = (t s^2 - (1 - t)) / sigma_t^2

    It generates p_1 from N(0, I) in the limit of many solver steps.
    """
    slope = ((t * mixture.std**2 - (1 - t)) / _path_variance(mixture, t))[:, None]
    mean = _mode_logits(mixture, x, t).softmax(1) @ mixture.means
    return mean + slope * (x - t[:, None] * mean)


def quadrature_grid(
    mixture: Mixture, *, spacing: float, reach: float = 6.0
) -> tuple[Float[Tensor, "points 2"], Float[Tensor, " points"]]:
    """Points x_1 of a square grid and weights proportional to p_1(x_1) that sum to 1.

    The grid reaches ``reach`` s beyond the outermost means. The rectangle rule on a Gaussian of
    width w is exact up to about 2 exp(-2 (pi w / spacing)^2), relatively. The narrowest factor
    that ``adrpo_minimiser`` puts on it has w = (1 - t) / t, so that a spacing of (1 - t) / t at the
    largest t in use leaves 1e-8.
    """
    margin = reach * mixture.std
    axes = [
        torch.arange(low - margin, high + margin + spacing, spacing, dtype=mixture.means.dtype)
        for low, high in zip(
            mixture.means.amin(0).tolist(), mixture.means.amax(0).tolist(), strict=True
        )
    ]
    x_1 = torch.cartesian_prod(*axes)
    return x_1, path_log_density(mixture, x_1, torch.ones_like(x_1[:, 0])).softmax(0)


def adrpo_minimiser(
    x: Float[Tensor, "batch dim"],
    t: Float[Tensor, " batch"],
    v_ref: Float[Tensor, "batch dim"],
    *,
    x_1: Float[Tensor, "points dim"],
    weights: Float[Tensor, " points"],
    advantages: Float[Tensor, " points"],
    beta_0: float,
) -> Float[Tensor, "batch dim"]:
    """v*(x, t) = v_ref + E[A (u_t - v_ref) | x_t = x] / beta_0.

    This is fact 4 of docs/method/equations.md: the function that minimises the expectation of eq. 6
    (arXiv 2510.18053) with beta = beta_0 - A, where the policy's samples x_1 are the ``points``,
    drawn with probability ``weights``. Given x_t = x the noise is x_0 = (x - t x_1) / (1 - t), so
    u_t = (x_1 - x) / (1 - t) and

        p(x_1 | x_t = x)  proportional to  weight(x_1) exp(-|x - t x_1|^2 / (2 (1 - t)^2))

    With ``quadrature_grid`` it is the first outer step's minimiser, with samples of a policy (equal
    weights) a Monte-Carlo estimate of a later one's. It moves at most
    |v* - v_ref| <= (max |A| / beta_0) E[|u_t - v_ref| | x_t = x].

    Args:
        x: where to evaluate.
        t: one time per row, in [0, 1).
        v_ref: velocity of the reference at (x, t).
        x_1: the support of the samples' distribution.
        weights: probability of each point, positive.
        advantages: A, clipped, one per point.
        beta_0: the coefficient at A = 0.

    Raises:
        ValueError: ``beta_0`` is not positive, or a t is not below 1: x_t then is x_1.
    """
    if beta_0 <= 0:
        raise ValueError(f"expected beta_0 > 0, received {beta_0}")
    if not bool((t < 1).all()):
        raise ValueError(f"expected t < 1, received {float(t.max())}")
    # |x - t x_1|^2 without |x|^2, which all points share; and E[A x_1], E[A] in one product.
    half_square = x_1.square().sum(1) / 2
    moments = advantages[:, None] * torch.cat([x_1, torch.ones_like(x_1[:, :1])], dim=1)
    means, rows = [], max(1, CHUNK // len(x_1))
    for x_rows, t_rows in zip(x.split(rows), t[:, None].split(rows), strict=True):
        exponent = (t_rows * (x_rows @ x_1.T) - t_rows.square() * half_square) / (1 - t_rows) ** 2
        means.append((weights.log() + exponent).softmax(1) @ moments)
    mean_ax_1, mean_a = torch.cat(means).split([x.shape[1], 1], dim=1)
    tilt = (mean_ax_1 - mean_a * x) / (1 - t[:, None]) - mean_a * v_ref
    return v_ref + tilt / beta_0


def _path_variance(mixture: Mixture, t: Tensor) -> Tensor:
    """sigma_t^2 = (1 - t)^2 + t^2 s^2, of x_t within a mode and direction."""
    return (1 - t).square() + (t * mixture.std).square()


def _mode_logits(mixture: Mixture, x: Tensor, t: Tensor) -> Tensor:
    """log p(k, x_t = x) without the terms that all modes share, [batch, modes]."""
    t = t[:, None]
    half_square = mixture.means.square().sum(1) / 2
    inner = t * (x @ mixture.means.T) - t.square() * half_square
    return mixture.weights.log() + inner / _path_variance(mixture, t)

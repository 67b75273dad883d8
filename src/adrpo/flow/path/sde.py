"""The flow as a stochastic process with the same marginals, and its Gaussian steps.

A flow's samples are a deterministic function of the noise, so they have no likelihood ratio of
policies. Flow-GRPO (Liu et al., arXiv 2505.05470) adds noise and takes it out of the drift:

    dx = [v - g^2 / (2 (1 - t)) (x - t v)] dt + g dW,    g = a sqrt((1 - t) / t)

has the marginals of dx = v dt, because grad log p_t(x) = -(x - t v) / (1 - t) for the straight
path from N(0, 1) noise. Times are the paper's: t from 0 (noise) to 1 (data).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adrpo.core.placement import sent
from adrpo.flow.path.samplers import Velocity


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One run of the process: ``points`` [steps + 1, batch, ...] with noise first and samples
    last, ``times`` [steps + 1], and ``log_probs`` [steps - 1, batch] of the noisy steps."""

    points: Tensor
    times: Tensor
    log_probs: Tensor


def step_distribution(
    x: Tensor, v: Tensor, t: Tensor, t_next: Tensor, *, noise_level: float, first: float
) -> tuple[Tensor, Tensor]:
    """Mean [batch, ...] and standard deviation [batch] of the Euler-Maruyama step t -> t_next.

    Args:
        x: states at ``t`` [batch].
        v: velocities there.
        t: times, [batch].
        t_next: times after the step, [batch].
        noise_level: a.
        first: the grid's first time after 0; it stands in for t in g where t is smaller, since g
            has a pole at the noise end.
    """
    bounded = t.clamp(min=first)
    # g^2 / (2 (1 - t)), with the factor 1 - t cancelled.
    pull = _rows(noise_level**2 / (2 * bounded), x)
    length = t_next - t
    mean = x + _rows(length, x) * (v - pull * (x - _rows(t, x) * v))
    return mean, noise_level * ((1 - t) / bounded * length).sqrt()


def gaussian_log_prob(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """log N(x; mean, std^2), averaged over a row's elements: [batch], in nats per element.

    The average, not the sum, is the field's convention (Flow-GRPO, DDPO): the bound of the ratio
    then does not depend on the number of pixels. ``x`` is held constant.
    """
    spread = _rows(std, x)
    square = ((x.detach() - mean) / spread).square()
    log_density = -0.5 * square - spread.log() - 0.5 * math.log(2 * math.pi)
    return log_density.flatten(1).mean(1)


def gaussian_kl(mean: Tensor, other: Tensor, std: Tensor) -> Tensor:
    """KL(N(mean, std^2) || N(other, std^2)) = (mean - other)^2 / (2 std^2), averaged over a row's
    elements: [batch], in nats per element. ``other`` is held constant.

    ``std`` is that of the step, dt included. The code that was published with Flow-GRPO divides by
    the variance g^2 of a unit of time instead of g^2 dt; this is 1 / dt times its term.
    """
    return ((mean - other.detach()).square() / (2 * _rows(std, mean).square())).flatten(1).mean(1)


@torch.no_grad()
def simulate(
    velocity: Velocity,
    x_0: Tensor,
    times: Tensor,
    *,
    noise_level: float,
    noise: Callable[[int], Tensor],
) -> Trajectory:
    """Run the process from ``x_0`` along ``times``.

    The last step is an Euler step of the ODE: noise added there would stay in the sample.

    Args:
        velocity: v(x, t) with t [batch].
        x_0: noise, at times[0].
        times: increasing from 0 to 1.
        noise_level: a.
        noise: index of a step -> N(0, 1) draws shaped like ``x_0``.
    """
    # Read before the times move: the host would wait for the device.
    points, log_probs, first = [x_0], [], float(times[1])
    times = sent(times, x_0.device)
    for index in range(len(times) - 1):
        x = points[-1]
        t, t_next = times[index].expand(len(x)), times[index + 1].expand(len(x))
        v = velocity(x, t)
        if index == len(times) - 2:
            points.append(x + _rows(t_next - t, x) * v)
            break
        mean, std = step_distribution(x, v, t, t_next, noise_level=noise_level, first=first)
        points.append(mean + _rows(std, x) * noise(index).to(x.device))
        log_probs.append(gaussian_log_prob(points[-1], mean, std))
    return Trajectory(points=torch.stack(points), times=times, log_probs=torch.stack(log_probs))


def _rows(values: Tensor, like: Tensor) -> Tensor:
    """[batch] -> [batch, 1, 1, ...], to broadcast against ``like``."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))

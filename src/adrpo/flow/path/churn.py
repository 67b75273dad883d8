"""Euler steps with a little fresh noise at each point: samples that differ by little.

Finite Difference Flow Optimization (McAllister et al., arXiv 2603.12893) draws two trajectories
from one start noise and tells them apart by noise of their own. A step from t to t' goes too far,
to a point rho > t' with less noise, and the noise that is missing there is put in afresh. In the
paper's time (1 is noise there, tau = 1 - t) a state of noise tau over signal 1 - tau has the ratio
tau / (1 - tau), and churn gamma multiplies it by 1 + gamma, so that the Euler step has to end at

    r / (1 - r) = tau' / (1 - tau') / (1 + gamma),    which is r = tau' / (1 + gamma (1 - tau'))

With tau' = 1 - t' and rho = 1 - r here:

    rho = t' (1 + gamma) / (1 + gamma t')
    y   = x + (rho - t) v(x, t)
    x'  = (1 + gamma t') / (1 + gamma) y + (1 - t') sqrt(1 - (1 + gamma)^-2) eps,  eps ~ N(0, I)

If y is (1 - rho) x_0 + rho x_1 with x_0 ~ N(0, I), then x' is t' x_1 plus noise whose variance is

    ((1 - t') / (1 + gamma))^2 + (1 - t')^2 (1 - (1 + gamma)^-2) = (1 - t')^2

so that x' has the marginal of the path at t', whatever the data are. At t' = 0 the same formula
churns the start noise (rho = 0), at t' = 1 it is Euler's step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from adrpo.core.placement import sent
from adrpo.flow.path.samplers import Velocity


@dataclass(frozen=True, kw_only=True)
class ChurnedTrajectory:
    """One run of the sampler: ``points`` [steps, batch, ...] at which the network was evaluated,
    the first of them the churned start noise; ``velocities`` found there, of the same shape;
    ``times`` [steps + 1]; and the samples ``x_1`` [batch, ...]."""

    points: Tensor
    velocities: Tensor
    times: Tensor
    x_1: Tensor


def overshoot(t: Tensor, *, churn: float) -> Tensor:
    """rho = t (1 + gamma) / (1 + gamma t), the time from which ``churned`` leads back to ``t``.

    >>> overshoot(torch.tensor([0.0, 0.5, 1.0]), churn=0.5)
    tensor([0.0000, 0.6000, 1.0000])
    """
    return t * (1 + churn) / (1 + churn * t)


def churned(
    y: Float[Tensor, " batch *dims"],
    t: Float[Tensor, ""],
    *,
    churn: float,
    noise: Float[Tensor, " batch *dims"],
) -> Float[Tensor, " batch *dims"]:
    """The state at ``t`` that fresh noise makes of ``y``, a state at ``overshoot(t)``:

        x = (1 + gamma t) / (1 + gamma) y + (1 - t) sqrt(1 - (1 + gamma)^-2) eps

    (arXiv 2603.12893, in this time; derived above). A churn of 0 returns ``y``.

    Args:
        y: states at ``overshoot(t, churn=churn)``.
        t: one time for all of them.
        churn: gamma >= 0, the relative growth of noise over signal.
        noise: eps ~ N(0, I).
    """
    kept = (1 + churn * t) / (1 + churn)
    fresh = (1 - t) * (1 - (1 + churn) ** -2) ** 0.5
    return kept.to(y.dtype) * y + fresh.to(y.dtype) * noise


@torch.no_grad()
def churned_euler(
    velocity: Velocity,
    x_0: Float[Tensor, " batch *dims"],
    times: Float[Tensor, " points"],
    *,
    churn: float,
    noise: Callable[[int], Tensor],
) -> ChurnedTrajectory:
    """Churn ``x_0``, then run Euler's steps along ``times``, each of which ends in fresh noise but
    the last.

    A churn of 0 is ``samplers.euler``. The noises of n steps amount to n log(1 + gamma) of the
    noise's logarithm over the signal's: n2 steps with (1 + gamma)^(n1 / n2) - 1 stir as much as n1
    steps with gamma do.

    Args:
        velocity: v(x, t) with t [batch].
        x_0: noise, at times[0].
        times: increasing from 0 to 1.
        churn: gamma of the start and of each step, >= 0.
        noise: 0 for the start, or the number of a step that is not the last, from 1 -> N(0, 1)
            draws shaped like ``x_0``.
    """
    times = sent(times, x_0.device)
    x = churned(x_0, times[0], churn=churn, noise=noise(0).to(x_0))
    points, velocities, last = [], [], len(times) - 2
    for index, (t, t_next) in enumerate(pairwise(times)):
        v = velocity(x, t.expand(len(x))).to(x.dtype)
        points.append(x)
        velocities.append(v)
        x = x + (overshoot(t_next, churn=churn) - t).to(x.dtype) * v
        if index < last:
            x = churned(x, t_next, churn=churn, noise=noise(index + 1).to(x))
    return ChurnedTrajectory(
        points=torch.stack(points), velocities=torch.stack(velocities), times=times, x_1=x
    )

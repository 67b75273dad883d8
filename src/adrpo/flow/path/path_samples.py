"""Points of the path at which the samples of a step are used."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from adrpo.core.placement import sent
from adrpo.flow.path.convention import interpolate, target_velocity
from adrpo.runs.processes import Share

TimestepSampling = Literal["stratified", "uniform", "logit_normal"]


@dataclass(frozen=True, kw_only=True)
class PathSamples:
    """Points of the path through the samples: a time and fresh noise, independent of how x_1 was
    sampled. ``x_t`` and ``u_t`` are [rows, *latent_shape], ``t`` [rows]."""

    t: Tensor
    x_t: Tensor
    u_t: Tensor

    def select(self, rows: Tensor) -> "PathSamples":
        """The points ``rows`` (integers)."""
        return PathSamples(t=self.t[rows], x_t=self.x_t[rows], u_t=self.u_t[rows])


def sample_times(
    rows: int,
    generator: torch.Generator,
    *,
    timesteps: int = 1,
    sampling: TimestepSampling = "stratified",
) -> Tensor:
    """Times [rows] in (0, 1), ``timesteps`` for each sample, sample after sample.

    uniform       t ~ U(0, 1)                               (arXiv 2510.18053, Algorithm 1)
    stratified    each t is uniform; those of one sample lie one in each interval of width
                  1 / timesteps, so that their mean estimates the expectation over t with less
                  variance. With one time for each sample it is ``uniform``.
    logit_normal  t = sigmoid(z), z ~ N(0, 1): more of the middle of the path (Esser et al.,
                  arXiv 2403.03206, section 3.1, with location 0 and scale 1)
    """
    if sampling == "logit_normal":
        return torch.randn(rows, generator=generator).sigmoid()
    draws = torch.rand(rows, generator=generator)
    if sampling == "uniform":
        return draws
    return (torch.arange(rows) % timesteps + draws) / timesteps


def sample_path(
    x_1: Tensor,
    generator: torch.Generator,
    *,
    timesteps: int = 1,
    sampling: TimestepSampling = "stratified",
    share: Share | None = None,
    group_size: int = 1,
) -> PathSamples:
    """Draw ``timesteps`` points (t, x_0) for each sample; the draws are the same on every device.

    The rows are sample after sample; ``sampling`` as for ``sample_times``. Where ``x_1`` is a
    ``share`` of a batch, its samples get the points that they would get in the whole batch. With a
    ``group_size`` above 1 that many samples after each other have the same points.
    """
    share = (share or Share(0, len(x_1), len(x_1))).times(timesteps)
    x_1 = x_1.repeat_interleave(timesteps, dim=0)
    drawn = share.total // group_size
    t = sample_times(drawn, generator, timesteps=timesteps, sampling=sampling)
    x_0 = torch.randn((drawn, *x_1.shape[1:]), generator=generator)
    if group_size > 1:
        t, x_0 = (
            values.unflatten(0, (-1, 1, timesteps))
            .repeat_interleave(group_size, dim=1)
            .flatten(0, 2)
            for values in (t, x_0)
        )
    t, x_0 = (sent(share.of(values), x_1.device) for values in (t, x_0))
    return PathSamples(t=t, x_t=interpolate(x_0, x_1, t), u_t=target_velocity(x_0, x_1))

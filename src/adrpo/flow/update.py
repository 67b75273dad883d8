"""Algorithm 1's update: one gradient step on the policy's own samples."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adrpo.core import flow_objective, velocity_divergence
from adrpo.flow.anchors import Anchor
from adrpo.flow.path import interpolate, target_velocity
from adrpo.flow.policy import Conditioning, FlowPolicy
from adrpo.flow.stopwatch import Stopwatch


@dataclass(frozen=True, kw_only=True)
class PathSamples:
    """Points of the path through the samples: t ~ U(0, 1) and fresh noise, independent of how x_1
    was sampled. ``x_t`` and ``u_t`` are [rows, *latent_shape], ``t`` [rows]."""

    t: Tensor
    x_t: Tensor
    u_t: Tensor


def sample_path(x_1: Tensor, generator: torch.Generator, *, timesteps: int = 1) -> PathSamples:
    """Draw ``timesteps`` points (t, x_0) for each sample; the draws are the same on every device.

    The rows are sample after sample. Each t is uniform on (0, 1); those of one sample are
    stratified, one in each interval of width 1 / timesteps, so that their mean estimates the
    expectation over t with less variance than independent draws would.
    """
    x_1 = x_1.repeat_interleave(timesteps, dim=0)
    stratum = (torch.arange(len(x_1)) % timesteps) / timesteps
    t = (stratum + torch.rand(len(x_1), generator=generator) / timesteps).to(x_1.device)
    x_0 = torch.randn(x_1.shape, generator=generator).to(x_1.device)
    return PathSamples(t=t, x_t=interpolate(x_0, x_1, t), u_t=target_velocity(x_0, x_1))


@torch.no_grad()
def reference_velocity(
    policy: FlowPolicy,
    anchor: Anchor,
    path: PathSamples,
    conditioning: Conditioning,
    needed: Tensor,
    *,
    micro_batch: int,
    guidance_scale: float,
) -> Tensor:
    """v_ref of the rows where ``needed`` [batch] is true, in one pass with ``anchor`` active.

    The other rows are NaN: whatever reads one by mistake shows it.
    """
    v_ref = torch.full_like(path.x_t, math.nan)
    if not needed.any():
        return v_ref
    with anchor.active():
        for rows in needed.nonzero().flatten().split(micro_batch):
            v_ref[rows] = policy.velocity(
                path.x_t[rows],
                path.t[rows],
                conditioning.select(rows),
                guidance_scale=guidance_scale,
            )
    return v_ref


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Means over the step: ``loss`` as minimised, ``divergence`` over the ``reference_rows``."""

    loss: float
    divergence: float
    reference_rows: int


def accumulate_gradient(
    policy: FlowPolicy,
    anchor: Anchor,
    path: PathSamples,
    conditioning: Conditioning,
    *,
    advantages: Tensor,
    beta: Tensor,
    micro_batch: int,
    guidance_scale: float,
    stopwatch: Stopwatch,
) -> Losses:
    """Backpropagate the mean of eq. 6 over the step's path points into the adapter's gradients.

    ``micro_batch`` bounds the memory and changes neither loss nor gradient beyond rounding.
    """
    needed = beta != 0
    with stopwatch.part("reference"):
        v_ref = reference_velocity(
            policy,
            anchor,
            path,
            conditioning,
            needed,
            micro_batch=micro_batch,
            guidance_scale=guidance_scale,
        )
    losses, divergences = [], []
    with stopwatch.part("policy"):
        for rows in torch.arange(len(path.t), device=path.t.device).split(micro_batch):
            v = policy.velocity(
                path.x_t[rows],
                path.t[rows],
                conditioning.select(rows),
                guidance_scale=guidance_scale,
            )
            loss = flow_objective(v, path.u_t[rows], v_ref[rows], advantages[rows], beta=beta[rows])
            (loss.sum() / len(path.t)).backward()
            losses.append(loss.detach())
            divergences.append(velocity_divergence(v.detach(), v_ref[rows]))
    divergence = torch.cat(divergences)[needed]
    return Losses(
        loss=float(torch.cat(losses).mean()),
        divergence=float(divergence.mean()) if len(divergence) else 0.0,
        reference_rows=len(divergence),
    )

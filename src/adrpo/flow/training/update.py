"""Algorithm 1's update: one gradient step on the policy's own samples."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adrpo.core import velocity_divergence
from adrpo.flow.methods import Method
from adrpo.flow.models.protocol import Conditioning, FlowPolicy
from adrpo.flow.path.path_samples import PathSamples
from adrpo.flow.training.anchors import Anchor
from adrpo.flow.training.stopwatch import Stopwatch
from adrpo.runs.processes import ALONE, Processes


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
    method: Method,
    *,
    weight: Tensor,
    beta: Tensor,
    micro_batch: int,
    guidance_scale: float,
    stopwatch: Stopwatch,
    processes: Processes = ALONE,
) -> Losses:
    """Backpropagate the mean of the method's loss over the step's path points into the adapter's
    gradients.

    The points of the step are those of all ``processes``: each adds the part of its own ``path``
    to its gradients, whose sum over the processes is that of the mean, and the result is the
    step's. ``weight`` and ``beta`` are [rows]. A row where both are 0 takes part in the mean only,
    and costs no network evaluation, unless the processes share a sharded network: then all make the
    same calls, for all rows. ``micro_batch`` bounds the memory and changes neither loss nor
    gradient beyond rounding.
    """
    total = sum(processes.gather(len(path.t)))
    needed = beta != 0
    evaluated = needed
    if processes.sharded:
        evaluated = torch.full_like(needed, any(processes.gather(bool(needed.any()))))
    with stopwatch.part("reference"):
        v_ref = reference_velocity(
            policy,
            anchor,
            path,
            conditioning,
            evaluated,
            micro_batch=micro_batch,
            guidance_scale=guidance_scale,
        )
    active = (needed | (weight != 0) | processes.sharded).nonzero().flatten()
    losses, divergences = [], []
    with stopwatch.part("policy"):
        # An empty tensor splits into one empty part, which the model can't take.
        for rows in active.split(micro_batch) if len(active) else ():
            points = path.select(rows)
            v = policy.velocity(
                points.x_t, points.t, conditioning.select(rows), guidance_scale=guidance_scale
            )
            loss = method.loss(v, v_ref[rows], points, weight[rows], beta[rows]).sum()
            (loss / total).backward()
            losses.append(loss.detach())
            divergences.append(velocity_divergence(v.detach(), v_ref[rows])[needed[rows]])
    divergence = torch.cat(divergences) if divergences else torch.empty(0)
    divergence = processes.gather_rows(divergence)
    return Losses(
        loss=sum(processes.gather(float(sum(losses)))) / total,
        divergence=float(divergence.mean()) if len(divergence) else 0.0,
        reference_rows=len(divergence),
    )

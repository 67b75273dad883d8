"""Algorithm 1's update: one gradient step on the policy's own samples."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adrpo.core import velocity_divergence
from adrpo.flow.methods import Method, Weights
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.path.path_samples import PathSamples
from adrpo.flow.training.anchors import Anchor
from adrpo.flow.training.stopwatch import Stopwatch
from adrpo.runs.processes import ALONE, Processes


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows to learn from (:class:`~adrpo.flow.methods.Rows`), and what the model reads of their
    prompts."""

    path: PathSamples
    conditioning: Conditioning
    weights: Weights

    def __len__(self) -> int:
        return len(self.path.t)

    def select(self, rows: Tensor) -> "Batch":
        """The rows ``rows`` (integers)."""
        return Batch(
            path=self.path.select(rows),
            conditioning=self.conditioning.select(rows),
            weights=self.weights.select(rows),
        )


Velocity = Callable[[Batch], Tensor]
"""v of rows, [rows, *latent_shape], by the policy as it is now."""


@torch.no_grad()
def reference_velocity(
    velocity: Velocity, anchor: Anchor, batch: Batch, needed: Tensor, *, micro_batch: int
) -> Tensor:
    """v_ref of the rows where ``needed`` [rows] is true, in one pass with ``anchor`` active.

    The other rows are NaN: whatever reads one by mistake shows it.
    """
    v_ref = torch.full_like(batch.path.x_t, math.nan)
    if not needed.any():
        return v_ref
    with anchor.active():
        for rows in needed.nonzero().flatten().split(micro_batch):
            v_ref[rows] = velocity(batch.select(rows))
    return v_ref


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Means over the step: ``loss`` as minimised, ``divergence`` over the ``reference_rows``."""

    loss: float
    divergence: float
    reference_rows: int


def accumulate_gradient(
    velocity: Velocity,
    anchor: Anchor,
    method: Method,
    batch: Batch,
    *,
    micro_batch: int,
    stopwatch: Stopwatch,
    processes: Processes = ALONE,
) -> Losses:
    """Backpropagate the mean of the method's loss over the step's rows into the adapter's
    gradients.

    The rows of the step are those of all ``processes``. Each backpropagates those of its own
    ``batch`` divided by their number in all, so that the gradients sum to the step's; the returned
    values are the step's already. Rows with weight = beta = 0 count in the mean but skip the
    network. With a sharded network all rows are run, because every process must make the same
    calls. ``micro_batch`` bounds the memory and changes neither loss nor gradient beyond rounding.
    """
    total = sum(processes.gather(len(batch)))
    weights = batch.weights
    needed = weights.beta != 0
    evaluated = needed
    if processes.sharded:
        evaluated = torch.full_like(needed, any(processes.gather(bool(needed.any()))))
    with stopwatch.part("reference"):
        v_ref = reference_velocity(velocity, anchor, batch, evaluated, micro_batch=micro_batch)
    active = (needed | (weights.weight != 0) | processes.sharded).nonzero().flatten()
    losses, divergences = [], []
    with stopwatch.part("policy"):
        # An empty tensor splits into one empty part, which the model can't take.
        for rows in active.split(micro_batch) if len(active) else ():
            part = batch.select(rows)
            v = velocity(part)
            loss = method.loss(v, v_ref[rows], part).sum()
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

"""Algorithm 1's update: one gradient step on the policy's own samples."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adrpo.core import velocity_divergence
from adrpo.core.placement import sent
from adrpo.flow.methods import Method, Weights
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.path.path_samples import PathSamples
from adrpo.flow.training.anchors import Anchor
from adrpo.flow.training.stopwatch import Stopwatch
from adrpo.runs.processes import ALONE, Processes

NOTHING = torch.empty(0)
"""In the place of what a method doesn't read."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows to learn from (:class:`~adrpo.flow.methods.Rows`), and what the model reads of their
    prompts.

    ``group`` [rows] is equal for rows of one prompt at the same point of their samples. It,
    ``v_old`` and ``of_group`` are there for the methods that read them.
    """

    path: PathSamples
    conditioning: Conditioning
    weights: Weights
    group: Tensor = NOTHING
    v_old: Tensor = NOTHING
    of_group: Tensor = NOTHING

    def __len__(self) -> int:
        return len(self.path.t)

    def select(self, rows: Tensor) -> "Batch":
        """The rows ``rows`` (integers)."""
        return Batch(
            path=self.path.select(rows),
            conditioning=self.conditioning.select(rows),
            weights=self.weights.select(rows),
            **{
                name: values[rows] if len(values := getattr(self, name)) else NOTHING
                for name in ("group", "v_old", "of_group")
            },
        )


Velocity = Callable[[Batch], Tensor]
"""v of rows, [rows, *latent_shape], by the policy as it is now."""


def rows_where(mask: Tensor, device: torch.device) -> Tensor:
    """Numbers of the rows where ``mask`` [rows], on the host, is true, on ``device``."""
    return sent(mask.nonzero().flatten(), device)


@torch.no_grad()
def constant_velocity(
    velocity: Velocity, model: Anchor, batch: Batch, needed: Tensor, *, micro_batch: int
) -> Tensor:
    """The velocity of the rows where ``needed`` [rows], on the host, is true, in one pass with
    ``model`` active.

    The other rows are NaN: whatever reads one by mistake shows it.
    """
    found = torch.full_like(batch.path.x_t, math.nan)
    if not needed.any():
        return found
    with model.active():
        for rows in rows_where(needed, found.device).split(micro_batch):
            found[rows] = velocity(batch.select(rows))
    return found


@torch.no_grad()
def of_groups(
    velocity: Velocity,
    method: Method,
    batch: Batch,
    needed: Tensor,
    *,
    micro_batch: int,
    processes: Processes,
) -> Tensor:
    """``Method.of_group`` of the rows of ``batch``, whose groups may lie on several processes."""
    statistic = torch.full_like(batch.path.t, math.nan)
    chosen = rows_where(needed, statistic.device)
    for rows in chosen.split(micro_batch) if len(chosen) else ():
        part = batch.select(rows)
        statistic[rows] = method.statistic(velocity(part), part)
    lengths = processes.gather(len(batch))
    on_cpu = (statistic.cpu(), batch.weights.to(torch.device("cpu")), batch.group.cpu())
    whole, weights, group = zip(*processes.gather(on_cpu), strict=True)
    found = method.of_group(torch.cat(whole), Weights.joined(weights), torch.cat(group))
    first = sum(lengths[: processes.rank])
    own = found[first : first + len(batch)].to(batch.path.t.dtype)
    return sent(own, batch.path.t.device)


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
    old: Anchor | None = None,
    reference: Velocity | None = None,
    processes: Processes = ALONE,
) -> Losses:
    """Backpropagate the mean of the method's loss over the step's rows into the adapter's
    gradients.

    The rows of the step are those of all ``processes``. Each backpropagates those of its own
    ``batch`` divided by their number in all, so that the gradients sum to the step's; the returned
    values are the step's already. Rows with weight = beta = 0 count in the mean but skip the
    network, unless the method compares with an ``old`` policy. With a sharded network all rows are
    run, because every process must make the same calls. ``micro_batch`` bounds the memory and
    changes neither loss nor gradient beyond rounding. ``reference`` is the velocity of rows by the
    anchor, where its guidance is another than the policy's.
    """
    total = sum(processes.gather(len(batch)))
    needed, active = _masks(batch.weights, method, processes)
    referred, compared = (_everywhere(rows, processes) for rows in (needed, active & method.old))
    at_once = {"micro_batch": micro_batch}
    with stopwatch.part("reference"):
        v_ref = constant_velocity(reference or velocity, anchor, batch, referred, **at_once)
        if old is not None:
            v_old = constant_velocity(velocity, old, batch, compared, **at_once)
            batch = replace(batch, v_old=v_old)
    if method.grouped:
        with stopwatch.part("policy"):
            found = of_groups(velocity, method, batch, active, processes=processes, **at_once)
        batch = replace(batch, of_group=found)
    # To the older policy where no row is held to the reference.
    by_old = method.old and not any(processes.gather(bool(needed.any())))
    losses, divergences = [], []
    rows_run = rows_where(active, batch.path.t.device)
    with stopwatch.part("policy"):
        # An empty tensor splits into one empty part, which the model can't take.
        for rows in rows_run.split(micro_batch) if len(rows_run) else ():
            part = batch.select(rows)
            v = velocity(part)
            loss = method.loss(v, v_ref[rows], part).sum()
            (loss / total).backward()
            losses.append(loss.detach())
            held_to = part.v_old if by_old else v_ref[rows]
            divergences.append(velocity_divergence(v.detach(), held_to))
    counted = (active if by_old else needed)[active]
    divergence = processes.gather_rows(_where(divergences, counted))
    return Losses(
        loss=sum(processes.gather(float(sum(losses)))) / total,
        divergence=float(divergence.mean()) if len(divergence) else 0.0,
        reference_rows=len(divergence),
    )


def _masks(weights: Weights, method: Method, processes: Processes) -> Tensor:
    """Two masks of a step's rows, [2, rows]: which need the reference, and which the policy; on the
    host, which else waits for the device wherever rows are chosen."""
    needed = (weights.beta != 0) & weights.taken
    active = needed | (weights.weight != 0) | (weights.taken & method.old) | processes.sharded
    return torch.stack((needed, active)).cpu()


def _where(parts: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Values of ``parts``, each [rows], where ``mask``, on the host, is true."""
    if not parts:
        return torch.empty(0)
    values = torch.cat(list(parts))
    return values[rows_where(mask, values.device)]


def _everywhere(rows: Tensor, processes: Processes) -> Tensor:
    """The mask ``rows``; with a sharded network all rows, as soon as one process has any."""
    if not processes.sharded:
        return rows
    return torch.full_like(rows, any(processes.gather(bool(rows.any()))))

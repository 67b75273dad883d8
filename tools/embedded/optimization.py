"""The optimizers, the learning-rate schedule and the step that the embedded models share."""

import time

import torch
from torch import Tensor, nn

OUTSIDE = ("embed", "norm1", "norm_out")
"""Parts of names of matrices that are tables or modulations rather than maps inside a block."""


def optimizers(
    model: nn.Module, *, muon_rate: float, adam_rate: float
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings, modulations and vectors."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        inside = parameter.ndim == 2 and not any(part in name for part in OUTSIDE)
        (matrices if inside else others).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=muon_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=adam_rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


class Schedule:
    """Linear rise over ``warmup`` steps, a plateau, a linear fall over the last 40 %."""

    def __init__(self, optimizing: list[torch.optim.Optimizer], *, steps: int, warmup: int) -> None:
        self.optimizing = optimizing
        self.full = [optimizer.param_groups[0]["lr"] for optimizer in optimizing]
        self.steps, self.warmup = steps, warmup

    def apply(self, step: int) -> None:
        """Make an optimizer step at the rates of ``step`` (from 1), and clear the gradients."""
        factor = min(1.0, step / self.warmup, (self.steps + 1 - step) / (0.4 * self.steps))
        for optimizer, full in zip(self.optimizing, self.full, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = full * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


class Descent:
    """Steps of ``model`` down a loss by ``schedule``; every 50 of them say how it stands."""

    def __init__(self, name: str, model: nn.Module, schedule: Schedule) -> None:
        self.name, self.model, self.schedule = name, model, schedule
        self._started, self._running = time.monotonic(), 0.0

    def step(self, step: int, loss: Tensor) -> None:
        """Step ``step`` (from 1), with the gradient's norm clipped to 1."""
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.schedule.apply(step)
        self._running += loss.item()
        if step % 50 == 0:
            mean, seconds = self._running / 50, time.monotonic() - self._started
            steps = self.schedule.steps
            print(f"{self.name} {step}/{steps} loss {mean:.4f} {seconds:.0f} s", flush=True)
            self._running = 0.0

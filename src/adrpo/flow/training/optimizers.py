"""The optimizer of the adapter, and how its learning rate moves."""

from collections.abc import Iterable

import torch
from torch import nn

from adrpo.config import FlowTrainingSection
from adrpo.errors import importing


def build_optimizer(
    parameters: Iterable[nn.Parameter], training: FlowTrainingSection
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) with both moments in float32, or in 8 bits.

    Raises AdrpoError where the 8-bit one is asked for and bitsandbytes can't be imported.
    """
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
    with importing("bitsandbytes", "training.optimizer", "adamw_8bit", "adamw"):
        from bitsandbytes.optim import AdamW8bit  # pyright: ignore[reportMissingImports]
    return AdamW8bit(parameters, lr=rate, weight_decay=decay)


def build_schedule(
    optimizer: torch.optim.Optimizer, training: FlowTrainingSection
) -> torch.optim.lr_scheduler.LambdaLR:
    """diffusers' schedule; its warm-up begins at a rate of 0."""
    from diffusers.optimization import get_scheduler

    name = training.learning_rate_schedule
    return get_scheduler(
        "constant_with_warmup" if name == "constant" else name,
        optimizer,
        num_warmup_steps=training.warmup_steps,
        num_training_steps=training.steps,
    )

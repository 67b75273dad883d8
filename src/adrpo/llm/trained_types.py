"""The number types of the weights that a language model's trainer moves."""

import warnings
from typing import Any

import torch
from torch import nn

from adrpo.errors import AdrpoError, AdrpoWarning


def check_trained_types(model: nn.Module, args: Any) -> None:
    """Look at the type of each weight that AdamW is to move; frozen ones may have any.

    In float16 its second moments, squares of gradients, underflow: the weights are lost within a
    few steps. bfloat16 has their range and 8 bits: what is added of less than 1/256 of a weight is
    rounded away, most of it at the rates of language models.

    Args:
        model: whose trained weights require a gradient.
        args: with the ``learning_rate`` that is told.

    Raises:
        AdrpoError: a trained weight is float16. One in bfloat16 is an AdrpoWarning.
    """
    trained = {name: own.dtype for name, own in model.named_parameters() if own.requires_grad}
    for name, dtype in trained.items():
        if dtype == torch.float16:
            raise AdrpoError(
                f"model: expected trained weights in float32, received float16, in which AdamW's "
                f"moments underflow ({name}); load them in float32, and set bf16=True for "
                f"arithmetic in 16 bits, or train an adapter"
            )
    rounded = [name for name, dtype in trained.items() if dtype == torch.bfloat16]
    if rounded:
        warnings.warn(
            f"{len(rounded)} of {len(trained)} trained tensors are bfloat16 ({rounded[0]}), where "
            f"most of AdamW's steps of {args.learning_rate:g} are rounded away: load them in "
            f"float32, and set bf16=True (model.autocast: bfloat16 in a recipe) for arithmetic in "
            f"16 bits, or train an adapter",
            AdrpoWarning,
            stacklevel=3,
        )


def in_float32(model: nn.Module) -> None:
    """Convert the weights that are trained to float32, before an optimizer knows them.

    TRL rounds an adapter on quantised weights to bfloat16, as QLoRA's authors did at rates of 1e-4
    and more; at those of reinforcement learning most steps would be rounded away.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()

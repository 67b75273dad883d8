"""Trials that every domain makes of its network: the adapter's base, and gradients."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from adrpo.runs.trials import Trial

SCALE = 2.0**12
"""Factor of a loss whose gradient shows what was rounded to 0 without it."""

SHARE_OF_ADAM = 1e-3
"""1 - beta_2 of Adam's defaults."""

LOST = 0.1
"""Most of the gradient that a number type may round to 0, as a share of its values."""

WIDER = "the number type is too narrow for them: use model.dtype=bfloat16 or float32"


@contextmanager
def base_alone(model: nn.Module) -> Iterator[None]:
    """``model`` with the base's own layers called in the place of those that hold an adapter: what
    the model with its adapter off must equal."""
    layers = [part for part in model.modules() if isinstance(part, BaseTunerLayer)]
    for layer in layers:
        layer.forward = layer.get_base_layer().forward
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def finite_trial(what: str, *tensors: Tensor) -> Trial:
    """Count the values of ``tensors`` that are not finite; one is too many."""
    return Trial(
        what=f"{what} that are not finite",
        value=float(sum(int((~tensor.isfinite()).sum()) for tensor in tensors)),
        limit=0.0,
        remedy="the weights are no numbers, or what is computed overflows: use other weights, or "
        "model.dtype=bfloat16 or float32",
    )


def gradient_trials(loss: Callable[[], Tensor], parameters: Sequence[nn.Parameter]) -> list[Trial]:
    """Try the gradient of a ``loss``, which is computed twice, by ``parameters``: it must be
    finite, and neither it nor its square be rounded to 0.

    What a loss 4096 times as large has a gradient by, and the loss itself has none, was rounded.
    No ``grad`` of a parameter is touched.
    """
    value = loss()
    plain = _gradients(value, 1.0, parameters)
    finite = finite_trial("values of the loss and its gradient", value, *plain)
    kept = [grad != 0 for grad in plain]
    squares = [(SHARE_OF_ADAM * grad.float() ** 2).to(grad.dtype) != 0 for grad in plain]
    del plain
    scaled = [grad != 0 for grad in _gradients(loss(), SCALE, parameters)]
    return [
        finite,
        Trial(
            what="share of the gradient that is rounded to 0",
            value=_lost(kept, scaled),
            limit=LOST,
            remedy=WIDER,
        ),
        Trial(
            what="share of Adam's second moments that are rounded to 0",
            value=_lost(squares, kept),
            limit=LOST,
            remedy=WIDER,
        ),
    ]


def _gradients(loss: Tensor, scale: float, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """``scale`` times the gradient of ``loss`` by each of ``parameters`` that has one."""
    found = torch.autograd.grad(loss * scale, parameters, allow_unused=True)
    return [grad for grad in found if grad is not None]


def _lost(kept: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Share of the places that are ``wanted`` and not ``kept``."""
    lost = sum(int((b & ~a).sum()) for a, b in zip(kept, wanted, strict=True))
    return lost / max(sum(int(b.sum()) for b in wanted), 1)

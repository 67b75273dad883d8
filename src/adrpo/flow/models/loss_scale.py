"""The loss scale of a float16 network, whose gradients would be flushed to 0 without one.

A loss is a mean over a sample's elements and a step's rows, so that its gradient at v is smaller
than float16's least number (6e-8) for images of usual sizes. In the network it is therefore
multiplied by a power of two, and divided by it again at the parameters, which are float32: both
are exact, and gradients are what they are in a type of float32's range.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

ROWS = 64
"""Rows of a step that the scale reckons with. With eight times as many, or as few, a gradient is
three bits nearer to one end of float16's forty."""


def loss_scale(elements: int) -> float:
    """The least power of two that is ``ROWS`` times the ``elements`` of a sample: it brings the
    gradient of a mean over both back to the size of a velocity."""
    return 2.0 ** (ROWS * elements - 1).bit_length()


def scale_gradient(v: Tensor, scale: float) -> Tensor:
    """``v`` in float32, whose gradient reaches the network in float16 times ``scale``."""
    v = v.float()
    if v.requires_grad:
        v.register_hook(lambda gradient: gradient * scale)
    return v


def unscale_gradients(parameters: Iterable[nn.Parameter], scale: float) -> None:
    """Let each backward pass divide the gradients of ``parameters``, in float32, by ``scale``."""
    for parameter in parameters:
        assert parameter.dtype == torch.float32, "the quotient would be flushed, too"
        parameter.register_hook(lambda gradient: gradient / scale)

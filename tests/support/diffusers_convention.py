"""What the tests hand to diffusers' own schedulers."""

from torch import Tensor


def velocity_to_diffusers(v: Tensor) -> Tensor:
    """The output of a diffusers model with the velocity ``v``: noise - data, -v."""
    return -v

"""The strength of the divergence penalty, sample by sample."""

import torch
from jaxtyping import Float
from torch import Tensor

from adrpo.core.advantages import clip_advantages


def adaptive_coefficient(
    advantages: Float[Tensor, " batch"],
    *,
    beta_0: float,
    clip: tuple[float, float] | None,
) -> Float[Tensor, " batch"]:
    """beta = beta_0 - A (eq. 4, arXiv 2510.18053), with A clipped first where ``clip`` is given.

    A sample better than its group is held less to the reference, a worse one more. At A = beta_0
    the coefficient is exactly 0; above it, it is negative and rewards distance.

    Args:
        advantages: A, one per sample.
        beta_0: the coefficient at A = 0.
        clip: (A_min, A_max), or None where the advantages are clipped already.

    Returns:
        Coefficients, detached, in float32 (float64 stays float64).

    Raises:
        ValueError: ``beta_0`` is not positive, or A_min > A_max.

    >>> adaptive_coefficient(torch.tensor([2.0, 0.25, -2.0]), beta_0=1.0, clip=(-1.0, 1.0))
    tensor([0.0000, 0.7500, 2.0000])
    """
    if beta_0 <= 0:
        raise ValueError(f"expected beta_0 > 0, received {beta_0}")
    if clip is not None:
        advantages = clip_advantages(advantages, low=clip[0], high=clip[1])
    dtype = torch.promote_types(advantages.dtype, torch.float32)
    return beta_0 - advantages.detach().to(dtype)

"""Distances between the policy and its reference."""

import torch
from jaxtyping import Float
from torch import Tensor


def velocity_divergence(
    v: Float[Tensor, "batch dim *dims"], v_ref: Float[Tensor, "batch dim *dims"]
) -> Float[Tensor, " batch"]:
    """D = |v - v_ref|^2, the mean square over a sample's elements (eq. 6, arXiv 2510.18053).

    Its mean over t and x_t bounds the squared Wasserstein-2 distance between what the two flows
    generate, up to a constant that grows with the velocity's Lipschitz constant.

    ``v_ref`` is a constant: no gradient reaches it. The gradient for v is 2 (v - v_ref) / n, with
    n the number of elements of one sample.

    Returns:
        One value per sample, in float32 (float64 where v is float64).
    """
    dtype = torch.promote_types(v.dtype, torch.float32)
    return (v.to(dtype) - v_ref.detach().to(dtype)).square().flatten(1).mean(1)

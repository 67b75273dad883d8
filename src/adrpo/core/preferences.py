"""Losses of preference pairs and of likelihood ratios. Each returns one value per row."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def flow_dpo_objective(
    error_chosen: Float[Tensor, " pairs"],
    error_rejected: Float[Tensor, " pairs"],
    ref_error_chosen: Float[Tensor, " pairs"],
    ref_error_rejected: Float[Tensor, " pairs"],
    *,
    beta: float,
) -> Float[Tensor, " pairs"]:
    """L = -log sigmoid(-beta / 2 [(d_w - d_w^ref) - (d_l - d_l^ref)]).

    Diffusion-DPO (Wallace et al., arXiv 2311.12908, eq. 14) with the velocity error of flow
    matching, d = |v - u_t|^2, the mean over a sample's elements, in place of the noise error; both
    samples of a pair share t and x_0. At the reference the loss is log 2.

    Args:
        error_chosen: d_w of the policy on the chosen samples.
        error_rejected: d_l of the policy on the rejected samples.
        ref_error_chosen: d_w^ref, of the reference; held constant.
        ref_error_rejected: d_l^ref, of the reference; held constant.
        beta: DPO's beta; the paper's factor T omega is folded in.
    """
    chosen = error_chosen - ref_error_chosen.detach()
    rejected = error_rejected - ref_error_rejected.detach()
    return -F.logsigmoid(-0.5 * beta * (chosen - rejected))


def clipped_surrogate(
    log_ratio: Float[Tensor, " batch"], advantages: Float[Tensor, " batch"], *, clip_range: float
) -> Float[Tensor, " batch"]:
    """L = -min(r A, clip(r, 1 - epsilon, 1 + epsilon) A), r = exp(log_ratio).

    PPO's clipped objective (Schulman et al., arXiv 1707.06347, eq. 7), as a loss. At r = 1 its
    gradient is that of -A log r. A is held constant.
    """
    ratio = log_ratio.exp()
    bounded = ratio.clamp(1 - clip_range, 1 + clip_range)
    weight = advantages.detach().to(ratio.dtype)
    return -torch.minimum(ratio * weight, bounded * weight)

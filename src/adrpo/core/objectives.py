"""The losses. Each returns one value per sample; the caller reduces."""

import torch
from jaxtyping import Float
from torch import Tensor

from adrpo.core.coefficient import adaptive_coefficient
from adrpo.core.divergences import velocity_divergence


def flow_objective(
    v: Float[Tensor, "batch dim *dims"],
    u_t: Float[Tensor, "batch dim *dims"],
    v_ref: Float[Tensor, "batch dim *dims"],
    advantages: Float[Tensor, " batch"],
    *,
    beta: float | Float[Tensor, ""] | Float[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """L = A |v - u_t|^2 + beta |v - v_ref|^2 (eq. 6 and Algorithm 1, arXiv 2510.18053).

    |.|^2 is the mean over a sample's elements. With beta = beta_0 - A, from
    ``adaptive_coefficient`` and the *same* clipped A, the loss is ADRPO: convex in v for every A,
    with minimiser ``flow_target``. With beta = beta_0 for all samples it is the fixed penalty.

    Only v carries a gradient: u_t, v_ref, A and beta are constants.

    Rows whose coefficient is exactly 0 never read v_ref: whatever stands there, NaN included,
    reaches neither the value nor the gradient. So the reference need not be evaluated for them.

    Args:
        v: velocity of the policy.
        u_t: target velocity x_1 - x_0.
        v_ref: velocity of the frozen reference; rows with coefficient 0 may hold anything.
        advantages: A, clipped, one per sample.
        beta: coefficient of the divergence, one for all samples or one per sample.

    Returns:
        One loss per sample, in float32 (float64 where v is float64).
    """
    dtype = torch.promote_types(v.dtype, torch.float32)
    weight = advantages.detach().to(dtype)
    coefficient = torch.as_tensor(beta, dtype=dtype, device=v.device).detach().expand(len(v))
    # Zero times NaN is NaN, so an unread row must be replaced before the difference is taken.
    reference = torch.where(_per_row(coefficient == 0, v), v.detach(), v_ref)
    return weight * velocity_divergence(v, u_t) + coefficient * velocity_divergence(v, reference)


@torch.no_grad()
def flow_target(
    u_t: Float[Tensor, "batch dim *dims"],
    v_ref: Float[Tensor, "batch dim *dims"],
    advantages: Float[Tensor, " batch"],
    *,
    beta_0: float,
) -> Float[Tensor, "batch dim *dims"]:
    """m = v_ref + (A / beta_0) (u_t - v_ref), the velocity that minimises ADRPO's loss.

    Completing the square of eq. 6 (arXiv 2510.18053) turns its two terms into one regression:

        A |v - u_t|^2 + (beta_0 - A) |v - v_ref|^2
            = beta_0 |v - m|^2 + (A (beta_0 - A) / beta_0) |u_t - v_ref|^2

    and the last term does not depend on v. It holds for every A, also above beta_0.

    Rows with A = beta_0 are exactly u_t and never read v_ref, NaN included.

    Args:
        u_t: target velocity x_1 - x_0.
        v_ref: velocity of the frozen reference.
        advantages: A, clipped, one per sample.
        beta_0: the coefficient at A = 0.

    Returns:
        The target, detached, shaped like u_t, in float32 (float64 where u_t is float64).

    Raises:
        ValueError: ``beta_0`` is not positive: the loss would have no minimum.
    """
    # Decided in the advantages' own precision, where A can equal beta_0; casting may part them.
    unread = adaptive_coefficient(advantages, beta_0=beta_0, clip=None) == 0
    dtype = torch.promote_types(u_t.dtype, torch.float32)
    u_t, v_ref, advantages = u_t.to(dtype), v_ref.to(dtype), advantages.to(dtype)
    blend = v_ref + _per_row(advantages / beta_0, u_t) * (u_t - v_ref)
    return torch.where(_per_row(unread, u_t), u_t, blend)


def _per_row(values: Tensor, like: Tensor) -> Tensor:
    """[batch] -> [batch, 1, 1, ...], to broadcast against ``like``."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))

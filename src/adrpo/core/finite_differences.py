"""Finite differences of two samples as a gradient, and the loss that follows it.

Finite Difference Flow Optimization (McAllister et al., arXiv 2603.12893). Two samples a and b of a
prompt, drawn from one start noise, lie near each other. What their rewards differ by is then what
the reward's gradient says of what they differ by, and a whole trajectory is one action. For the
sample a of a pair (for b the two change places, so that both signs turn and nothing else does):

    dR = (R_a - R_b) / 2        d = (x_1,a - x_1,b) / 2        g = d / (mean d^2 + 1e-6)
"""

import torch
from jaxtyping import Float
from torch import Tensor

SMALLEST_SQUARE = 1e-6
"""Added to mean d^2 (arXiv 2603.12893); two equal samples have the direction 0."""


def half_differences(values: Float[Tensor, " batch *dims"]) -> Float[Tensor, " batch *dims"]:
    """(value of itself - value of the other one) / 2 of each sample, rows 2 k and 2 k + 1 being a
    pair: dR of rewards, d of samples (arXiv 2603.12893).

    >>> half_differences(torch.tensor([3.0, 1.0, 0.0, 0.5]))
    tensor([ 1.0000, -1.0000, -0.2500,  0.2500])

    Raises:
        ValueError: the number of rows is odd.
    """
    if len(values) % 2:
        raise ValueError(f"expected an even number of rows, two for a pair, received {len(values)}")
    pairs = values.reshape(-1, 2, *values.shape[1:])
    half = (pairs[:, 0] - pairs[:, 1]) / 2
    return torch.stack([half, -half], dim=1).flatten(0, 1)


def end_directions(x_1: Float[Tensor, "batch dim *dims"]) -> Float[Tensor, "batch dim *dims"]:
    """g = d / (mean d^2 + 1e-6) of each sample, with its half difference d to the other one of its
    pair (arXiv 2603.12893); the mean is over a sample's elements, so that d . g / numbers is 1.

    Raises:
        ValueError: the number of rows is odd.
    """
    d = half_differences(x_1)
    square = d.square().flatten(1).mean(1) + SMALLEST_SQUARE
    return d / square.reshape(-1, *(1,) * (d.ndim - 1))


def difference_ratio(
    v: Float[Tensor, "batch dim *dims"],
    v_old: Float[Tensor, "batch dim *dims"],
    direction: Float[Tensor, "batch dim *dims"],
) -> Float[Tensor, " batch"]:
    """log q = |g|^2 - |v - (v_old + g)|^2, |.|^2 the mean over a sample's elements: 0 at v = v_old.

    Its gradient there is 2 g / numbers. In the paper's time the target is v_old - g, since its
    velocity points from the sample to the noise. g is large where the pair lies close, and of two
    squares of its size little would be left by rounding: computed is the same number as
    2 mean(g e) - mean(e^2) with e = v - v_old.

    Args:
        v: the policy's velocity at a point of the trajectory that ended in the sample.
        v_old: the velocity that was found there when the sample was drawn; held constant.
        direction: g, of ``end_directions``; held constant.

    Returns:
        One value per row, in float32 (float64 where v is float64).
    """
    dtype = torch.promote_types(v.dtype, torch.float32)
    change = v.to(dtype) - v_old.detach().to(dtype)
    return (change * (2 * direction.detach().to(dtype) - change)).flatten(1).mean(1)


def difference_surrogate(
    log_ratio: Float[Tensor, " batch"], advantages: Float[Tensor, " batch"], *, clip_range: float
) -> Float[Tensor, " batch"]:
    """L = -dR q + |dR| (q - 1)^2 / (2 epsilon), q = exp(log_ratio).

    The objective of Simple Policy Optimization (Xie et al., arXiv 2401.16025) with the pair's half
    difference dR in the advantage's place and the q of ``difference_ratio`` in that of a ratio of
    likelihoods (arXiv 2603.12893). It begins with the gradient of -dR log q, and is least where q
    is 1 + epsilon (dR > 0) or 1 - epsilon (dR < 0): unlike a clip it leads back from beyond.

    Args:
        log_ratio: log q.
        advantages: dR, held constant.
        clip_range: epsilon > 0.
    """
    weight = advantages.detach().to(log_ratio.dtype)
    ratio = log_ratio.exp()
    # Near q = 1 the square is that of log q, which exp(log q) - 1 would lose to rounding.
    return weight.abs() * log_ratio.expm1().square() / (2 * clip_range) - weight * ratio

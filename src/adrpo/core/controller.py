"""The law by which a controller of beta_0 holds the divergence of a run near a target."""

GAIN = 0.1
ERROR_BOUND = 0.2


def controlled(beta_0: float, *, divergence: float, target: float) -> float:
    """beta_0 (1 + 0.1 e), with e = divergence / target - 1 clipped to [-0.2, 0.2].

    The proportional controller in log space of Ziegler et al. (arXiv 1909.08593, section 2.2),
    with its constants: beta_0 moves by at most 2 % a step, upwards while the divergence is above
    the target. It sets the level; ADRPO's beta = beta_0 - A still varies by sample around it.
    """
    error = min(max(divergence / target - 1, -ERROR_BOUND), ERROR_BOUND)
    return beta_0 * (1 + GAIN * error)

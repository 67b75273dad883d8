"""DiffusionNFT: a positive and a negative implicit policy around an old one."""

import torch
from torch import Tensor

from adrpo.config import DiffusionNftSection
from adrpo.core import clip_advantages, group_advantages, velocity_divergence
from adrpo.flow.methods.base import TwoTermMethod, Weights
from adrpo.flow.path.path_samples import PathSamples

SMALLEST_ERROR = 1e-5


def nft_objective(
    v: Tensor,
    v_old: Tensor,
    path: PathSamples,
    optimality: Tensor,
    *,
    beta: Tensor,
    adaptive_weighting: bool,
) -> Tensor:
    """L = r / beta D(v+) + (1 - r) / beta D(v-), one value per row (arXiv 2509.16117).

        v+ = (1 - beta) v_old + beta v        v- = (1 + beta) v_old - beta v
        D(v') = |v' - u_t|^2                                                  plain
        D(v') = |x_1(v') - x_1|^2 / mean |x_1(v') - x_1|, x_1(v') = x_t + (1 - t) v'    adaptive

    r in [0, 1] is ``optimality``; |.|^2 is the mean over a row's elements, and the denominator is
    held constant. Without adaptive weighting the gradient is that of ADRPO with the anchor v_old,
    beta_0 = beta and A = 2 r - 1.
    """
    u_t, scale = path.u_t, beta.reshape(-1, *(1,) * (v.ndim - 1))
    v_old = v_old.detach()

    def distance(implicit: Tensor) -> Tensor:
        squared = velocity_divergence(implicit, u_t)
        if not adaptive_weighting:
            return squared
        # x_1(v') - x_1 = (1 - t) (v' - u_t).
        size = (1 - path.t) * (implicit - u_t).detach().abs().flatten(1).mean(1)
        return (1 - path.t).square() * squared / size.clamp(min=SMALLEST_ERROR)

    positive = distance((1 - scale) * v_old + scale * v)
    negative = distance((1 + scale) * v_old - scale * v)
    return (optimality * positive + (1 - optimality) * negative) / beta


class DiffusionNft(TwoTermMethod):
    """weight A / c in [-1, 1], from which r = (weight + 1) / 2; v_ref is the old policy."""

    def __init__(self, settings: DiffusionNftSection) -> None:
        self.settings = settings

    def weigh(self, rewards: Tensor, group_ids: Tensor) -> Weights:
        bound = self.settings.advantage_clip
        raw = group_advantages(rewards, group_ids, scale=self.settings.advantage_scale)
        weight = clip_advantages(raw, low=-bound, high=bound) / bound
        return Weights(
            advantages=raw,
            clipped=raw.abs() > bound,
            weight=weight,
            beta=torch.full_like(weight, self.settings.beta_0),
        )

    def loss(
        self, v: Tensor, v_ref: Tensor, path: PathSamples, weight: Tensor, beta: Tensor
    ) -> Tensor:
        return nft_objective(
            v,
            v_ref,
            path,
            (weight + 1) / 2,
            beta=beta,
            adaptive_weighting=self.settings.adaptive_weighting,
        )

"""DiffusionNFT: a positive and a negative implicit policy around an old one."""

from typing import final

import torch
from torch import Tensor

from adrpo.coefficient import Coefficient
from adrpo.config import DiffusionNftSection
from adrpo.core import velocity_divergence
from adrpo.flow.methods.base import Method, Rows, Terms, clipped_advantages, penalty
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


@final
class DiffusionNft(Method):
    """weight A / c in [-1, 1], from which r = (weight + 1) / 2, and a penalty beside it:

        loss_weight L(r, beta_0) + beta |v - v_ref|^2

    v_old is the model of ``algorithm.anchor``, v_ref the base's, beta by a schedule around
    ``kl_beta`` that reads A / c.
    """

    old = True

    def __init__(self, settings: DiffusionNftSection) -> None:
        self.settings = settings
        self.coefficient = Coefficient(settings.coefficient, settings.kl_beta)

    def terms(self, rewards: Tensor, group_ids: Tensor, novelty: Tensor | None) -> Terms:
        bound = self.settings.advantage_clip
        raw, advantages, clipped = clipped_advantages(rewards, group_ids, self.settings, novelty)
        weight = advantages / bound
        return Terms(advantages=raw, clipped=clipped, weight=weight, level=weight)

    def loss(self, v: Tensor, v_ref: Tensor, rows: Rows) -> Tensor:
        weights, settings = rows.weights, self.settings
        policy = nft_objective(
            v,
            rows.v_old,
            rows.path,
            (weights.weight + 1) / 2,
            beta=torch.full_like(weights.weight, settings.beta_0),
            adaptive_weighting=settings.adaptive_weighting,
        )
        return settings.loss_weight * policy + penalty(v, v_ref, weights.beta)

"""ADRPO (arXiv 2510.18053, eq. 6 and Algorithm 1), and its ablation with a fixed penalty."""

from typing import final

from torch import Tensor

from adrpo.config import AdrpoSection, FixedBetaSection
from adrpo.flow.methods.base import Method, Rows, Weights, clipped_advantages, two_terms
from adrpo.flow.methods.coefficient import AdaptiveCoefficient, FixedCoefficient


@final
class Adrpo(Method):
    """weight A, beta = beta_0 - A, with one and the same clipped A."""

    def __init__(self, settings: AdrpoSection) -> None:
        self.settings = settings
        self.coefficient = AdaptiveCoefficient(settings.beta_0, target=settings.target_divergence)

    def weigh(self, rewards: Tensor, group_ids: Tensor) -> Weights:
        scale, clip = self.settings.advantage_scale, self.settings.advantage_clip
        raw, advantages, clipped = clipped_advantages(rewards, group_ids, scale=scale, clip=clip)
        if self.settings.only_positive:
            advantages = advantages.clamp(min=0)
        beta = self.coefficient.of(advantages)
        return Weights(advantages=raw, clipped=clipped, weight=advantages, beta=beta)

    def loss(self, v: Tensor, v_ref: Tensor, rows: Rows) -> Tensor:
        return two_terms(v, v_ref, rows)


@final
class FixedBeta(Method):
    """weight A, beta = beta_0 for every sample."""

    def __init__(self, settings: FixedBetaSection) -> None:
        self.settings = settings
        self.coefficient = FixedCoefficient(settings.beta_0, target=settings.target_divergence)

    def weigh(self, rewards: Tensor, group_ids: Tensor) -> Weights:
        scale, clip = self.settings.advantage_scale, self.settings.advantage_clip
        raw, advantages, clipped = clipped_advantages(rewards, group_ids, scale=scale, clip=clip)
        beta = self.coefficient.of(advantages)
        return Weights(advantages=raw, clipped=clipped, weight=advantages, beta=beta)

    def loss(self, v: Tensor, v_ref: Tensor, rows: Rows) -> Tensor:
        return two_terms(v, v_ref, rows)

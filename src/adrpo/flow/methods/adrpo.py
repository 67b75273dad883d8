"""ADRPO (arXiv 2510.18053, eq. 6 and Algorithm 1), and its ablation with a fixed penalty."""

import torch
from torch import Tensor

from adrpo.config import AdrpoSection, FixedBetaSection
from adrpo.core import adaptive_coefficient, clip_advantages, group_advantages
from adrpo.core.controller import controlled
from adrpo.flow.methods.base import TwoTermMethod, Weights


class _Penalized(TwoTermMethod):
    """A clipped advantage as the weight, and a beta_0 that a controller may move."""

    def __init__(self, settings: AdrpoSection | FixedBetaSection) -> None:
        self.settings = settings
        self.beta_0 = settings.beta_0

    def _advantages(self, rewards: Tensor, group_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A before the clip, A after it, and where they differ."""
        raw = group_advantages(rewards, group_ids, scale=self.settings.advantage_scale)
        low, high = self.settings.advantage_clip
        return raw, clip_advantages(raw, low=low, high=high), (raw < low) | (raw > high)

    def observe(self, divergence: float) -> None:
        target = self.settings.target_divergence
        if target is not None:
            self.beta_0 = controlled(self.beta_0, divergence=divergence, target=target)

    def state(self) -> dict[str, float]:
        return {"beta_0": self.beta_0}

    def load_state(self, state: dict[str, float]) -> None:
        self.beta_0 = state["beta_0"]


class Adrpo(_Penalized):
    """weight A, beta = beta_0 - A, with one and the same clipped A."""

    settings: AdrpoSection

    def weigh(self, rewards: Tensor, group_ids: Tensor) -> Weights:
        raw, advantages, clipped = self._advantages(rewards, group_ids)
        if self.settings.only_positive:
            advantages = advantages.clamp(min=0)
        beta = adaptive_coefficient(advantages, beta_0=self.beta_0, clip=None)
        return Weights(advantages=raw, clipped=clipped, weight=advantages, beta=beta)


class FixedBeta(_Penalized):
    """weight A, beta = beta_0 for every sample."""

    settings: FixedBetaSection

    def weigh(self, rewards: Tensor, group_ids: Tensor) -> Weights:
        raw, advantages, clipped = self._advantages(rewards, group_ids)
        beta = torch.full_like(advantages, self.beta_0)
        return Weights(advantages=raw, clipped=clipped, weight=advantages, beta=beta)

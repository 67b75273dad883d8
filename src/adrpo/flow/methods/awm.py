"""Advantage-weighted matching: ADRPO without its divergence term."""

import torch
from torch import Tensor

from adrpo.config import AwmSection
from adrpo.core import clip_advantages, group_advantages
from adrpo.flow.methods.base import TwoTermMethod, Weights


class Awm(TwoTermMethod):
    """weight A, clipped and divided by the clip's greater end so that |A| <= 1; beta 0.

    Xue et al., arXiv 2509.25050, on policy, where their likelihood ratio is 1 and its gradient is
    that of A |v - u_t|^2. Their regularisers are off: for A < 0 nothing bounds the loss below.
    """

    def __init__(self, settings: AwmSection) -> None:
        self.settings = settings

    def weigh(self, rewards: Tensor, group_ids: Tensor) -> Weights:
        low, high = self.settings.advantage_clip
        raw = group_advantages(rewards, group_ids, scale=self.settings.advantage_scale)
        advantages = clip_advantages(raw, low=low, high=high) / max(abs(low), abs(high))
        return Weights(
            advantages=raw,
            clipped=(raw < low) | (raw > high),
            weight=advantages,
            beta=torch.zeros_like(advantages),
        )

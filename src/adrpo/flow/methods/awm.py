"""Advantage-weighted matching: ADRPO without its divergence term."""

from typing import final

from torch import Tensor

from adrpo.config import AwmSection
from adrpo.flow.methods.base import Method, Rows, Weights, clipped_advantages, two_terms
from adrpo.flow.methods.coefficient import FixedCoefficient


@final
class Awm(Method):
    """weight A, clipped and divided by the clip's greater end so that |A| <= 1; beta 0.

    Xue et al., arXiv 2509.25050, on policy, where their likelihood ratio is 1 and its gradient is
    that of A |v - u_t|^2. Their regularisers are off: for A < 0 nothing bounds the loss below.
    """

    def __init__(self, settings: AwmSection) -> None:
        self.settings = settings
        self.coefficient = FixedCoefficient(0.0)

    def weigh(self, rewards: Tensor, group_ids: Tensor) -> Weights:
        scale, clip = self.settings.advantage_scale, self.settings.advantage_clip
        raw, advantages, clipped = clipped_advantages(rewards, group_ids, scale=scale, clip=clip)
        weight = advantages / max(map(abs, clip))
        beta = self.coefficient.of(advantages)
        return Weights(advantages=raw, clipped=clipped, weight=weight, beta=beta)

    def loss(self, v: Tensor, v_ref: Tensor, rows: Rows) -> Tensor:
        return two_terms(v, v_ref, rows)

"""Advantage-weighted matching, with a penalty or without."""

from typing import final

from torch import Tensor

from adrpo.coefficient import Coefficient
from adrpo.config import AwmSection
from adrpo.flow.methods.base import Method, Rows, Terms, clipped_advantages, two_terms


@final
class Awm(Method):
    """weight A, clipped and divided by the clip's greater end so that |A| <= 1; beta by a schedule
    that reads the divided A.

    Xue et al., arXiv 2509.25050, on policy, where their likelihood ratio is 1 and its gradient is
    that of A |v - u_t|^2. With beta_0 = 0 their regularisers are off, and for A < 0 nothing bounds
    the loss below; their penalty is a fixed one to a moving average (``anchor: ema``).
    """

    def __init__(self, settings: AwmSection) -> None:
        self.settings = settings
        self.coefficient = Coefficient(settings.coefficient, settings.beta_0)

    def terms(self, rewards: Tensor, group_ids: Tensor, novelty: Tensor | None) -> Terms:
        clip = self.settings.advantage_clip
        raw, advantages, clipped = clipped_advantages(
            rewards, group_ids, self.settings, novelty, clip=clip
        )
        weight = advantages / max(map(abs, clip))
        return Terms(advantages=raw, clipped=clipped, weight=weight, level=weight)

    def loss(self, v: Tensor, v_ref: Tensor, rows: Rows) -> Tensor:
        return two_terms(v, v_ref, rows)

"""ADRPO (arXiv 2510.18053, eq. 6 and Algorithm 1), and its ablation with a fixed penalty."""

from typing import final

from torch import Tensor

from adrpo.coefficient import Coefficient
from adrpo.config import AdrpoSection, FixedBetaSection
from adrpo.flow.methods.base import Method, Rows, Terms, clipped_advantages, two_terms


@final
class Adrpo(Method):
    """weight A, clipped, and beta by a schedule that reads the same clipped A: beta_0 - A for
    ADRPO, beta_0 for the fixed penalty."""

    def __init__(self, settings: AdrpoSection | FixedBetaSection) -> None:
        self.settings = settings
        self.coefficient = Coefficient(
            settings.coefficient, settings.beta_0, target=settings.target_divergence, clipped=True
        )

    def terms(self, rewards: Tensor, group_ids: Tensor, novelty: Tensor | None) -> Terms:
        settings = self.settings
        raw, advantages, clipped = clipped_advantages(
            rewards, group_ids, settings, novelty, clip=settings.advantage_clip
        )
        if isinstance(settings, AdrpoSection) and settings.only_positive:
            advantages = advantages.clamp(min=0)
        return Terms(advantages=raw, clipped=clipped, weight=advantages, level=advantages)

    def loss(self, v: Tensor, v_ref: Tensor, rows: Rows) -> Tensor:
        return two_terms(v, v_ref, rows)

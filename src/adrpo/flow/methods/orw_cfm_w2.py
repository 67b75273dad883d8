"""ORW-CFM-W2: reward-weighted flow matching with a Wasserstein-2 term."""

from typing import final

import torch
from torch import Tensor

from adrpo.coefficient import Coefficient
from adrpo.config import OrwCfmW2Section
from adrpo.flow.methods.base import Method, Rows, Terms, no_clip, shaped_advantages, two_terms


@final
class OrwCfmW2(Method):
    """w = exp(tau A) > 0, beta by a schedule that reads A; theirs is fixed (Fan et al., arXiv
    2502.06061).

    The method's exp(tau R) is exp(tau V(c)) exp(tau A): a factor of the prompt, which weighs
    prompts and not their samples, and overflows for a score of 75 points. A = R - V(c) leaves it
    out. With ``weight_mean: one`` the weights of a group have mean 1.
    """

    def __init__(self, settings: OrwCfmW2Section) -> None:
        self.settings = settings
        self.coefficient = Coefficient(settings.coefficient, settings.beta_0)

    def terms(self, rewards: Tensor, group_ids: Tensor, novelty: Tensor | None) -> Terms:
        settings = self.settings
        scored = rewards.isfinite()
        advantages = shaped_advantages(rewards, group_ids, settings, novelty)
        weight = torch.where(scored, (settings.temperature * advantages).exp(), 0)
        if settings.weight_mean == "one":
            weight = weight / _group_mean(weight, group_ids, scored)
        return Terms(
            advantages=advantages, clipped=no_clip(weight), weight=weight, level=advantages
        )

    def loss(self, v: Tensor, v_ref: Tensor, rows: Rows) -> Tensor:
        return two_terms(v, v_ref, rows)


def _group_mean(values: Tensor, group_ids: Tensor, scored: Tensor) -> Tensor:
    """Mean over the scored samples of each sample's group; 1 in a group without any."""
    same = (group_ids[:, None] == group_ids[None, :]) & scored[None, :]
    count = same.sum(1)
    means = (same * values).sum(1) / count.clamp(min=1)
    return torch.where(count > 0, means, 1)

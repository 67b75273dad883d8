"""RAFT: flow matching on the best samples of each group, without an anchor."""

from typing import final

import torch
from torch import Tensor

from adrpo.coefficient import Coefficient
from adrpo.config import RaftSection
from adrpo.config.schedules import FixedSchedule
from adrpo.core import group_advantages
from adrpo.flow.methods.base import Method, Rows, Terms, no_clip, two_terms


@final
class Raft(Method):
    """weight K / best for the ``best`` samples of a group of K scored ones and 0 for the rest,
    beta 0: the mean over the batch is the mean over the samples that are kept (Dong et al., arXiv
    2304.06767). Among equal rewards the first sample wins."""

    def __init__(self, settings: RaftSection) -> None:
        self.settings = settings
        self.coefficient = Coefficient(FixedSchedule(), 0.0)

    def terms(self, rewards: Tensor, group_ids: Tensor, novelty: Tensor | None) -> Terms:
        weight = torch.zeros_like(rewards, dtype=torch.float32)
        for group in group_ids.unique():
            rows = (rewards.isfinite() & (group_ids == group)).nonzero().flatten()
            best = min(self.settings.best, len(rows))
            ranked = rewards[rows].argsort(descending=True, stable=True)
            weight[rows[ranked[:best]]] = len(rows) / max(best, 1)
        advantages = group_advantages(rewards, group_ids)
        return Terms(
            advantages=advantages, clipped=no_clip(weight), weight=weight, level=advantages
        )

    def loss(self, v: Tensor, v_ref: Tensor, rows: Rows) -> Tensor:
        return two_terms(v, v_ref, rows)

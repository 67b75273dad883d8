"""The rewards that a step learns from: the weighted sum, or that of normalised terms."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from adrpo.core.reward_sums import Moments, RewardNormalization, normalize_then_sum
from adrpo.rewards.base import RewardResult, RewardTerm


class RewardNormalizer:
    """The sum of a batch's terms as training takes it; evaluations and logs keep the plain one.

    A term's values are bounded (``logistic``), normalised (``normalize_then_sum``), and weighed, in
    this order.

    Args:
        terms: the reward.
        normalization: "none" leaves ``RewardResult.total`` as it is.
    """

    def __init__(
        self, terms: Sequence[RewardTerm] = (), normalization: RewardNormalization = "none"
    ) -> None:
        self.terms = terms
        self.normalization: RewardNormalization = normalization
        self._moments: Moments = {}

    def of(self, result: RewardResult, group_ids: Tensor) -> Tensor:
        """The rewards [batch] to learn from, NaN for a sample without a score; called once for each
        step, with the samples of all processes.

        Args:
            result: of the whole batch.
            group_ids: which samples are of one prompt, [batch].
        """
        if self.normalization == "none":
            return result.total
        rewards, self._moments = normalize_then_sum(
            torch.stack([term.bounded(result.by_term[term.name]) for term in self.terms]),
            torch.tensor([term.weight for term in self.terms]),
            group_ids,
            self._moments,
            normalization=self.normalization,
        )
        return rewards

    def state(self) -> dict[str, Any]:
        """Entries of a checkpoint: of ``running`` the moments so far, else none."""
        return {"reward_moments": dict(self._moments)} if self._moments else {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state`` gave."""
        self._moments = state.get("reward_moments", {})

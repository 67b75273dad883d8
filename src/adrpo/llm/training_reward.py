"""The reward of a language run, as TRL calls it while it trains."""

import functools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from adrpo.config import LanguageTrainingSection
from adrpo.rewards.base import RewardResult, RewardTerm
from adrpo.rewards.normalizing import RewardNormalizer
from adrpo.rewards.scoring import joined, score, takes
from adrpo.runs.processes import ALONE, Processes


class TrainingReward:
    """The sum of a run's terms, as the one reward function that TRL is given.

    TRL's own sum leaves a term without a value out of a sample, and keeps the sample. Here, as in
    every evaluation and in every domain, a sample that one term can't score has no score: None,
    which TRL leaves out of its group's mean and standard deviation, and gives the advantage 0.

    Where a group, or the whole step, has no score, TRL's loss has no policy gradient: the KL term
    alone is left, with the coefficient beta_0 (none with ``kl_on_degenerate_groups: false``), and
    the optimizer makes its step.

    The sum is that of :class:`RewardNormalizer`: of normalised terms, where the run asks for it.
    TRL is then handed these, and the recorder the plain sum.

    Args:
        terms: the reward.
        training: whose ``reward_normalization`` and ``samples_per_prompt`` are followed; None sums
            the terms as they are.
        processes: that train together; an error of a term in one of them is met by all, and
            ``result`` joins their scores.
    """

    __name__ = "reward"
    """By which TRL names it."""

    def __init__(
        self,
        terms: Sequence[RewardTerm],
        training: LanguageTrainingSection | None = None,
        *,
        processes: Processes = ALONE,
    ) -> None:
        self.terms = terms
        self.processes = processes
        self.normalizer = RewardNormalizer(
            terms, "none" if training is None else training.reward_normalization
        )
        self.group_size = 1 if training is None else training.samples_per_prompt
        self._last: RewardResult | None = None

    def __call__(
        self, prompts: list[Any], completions: list[Any], **columns: Any
    ) -> list[float | None]:
        """One value a completion. Of ``columns`` the lists have one item for each of them; what
        else TRL tells (``trainer_state``, ``log_metric``) a term hears that asks for it."""
        samples = {name: column for name, column in columns.items() if isinstance(column, list)}
        told = {name: value for name, value in columns.items() if name not in samples}
        terms = [_told(term, told) for term in self.terms]
        with self.processes.failing_together():
            self._last = score(terms, prompts=prompts, completions=completions, **samples)
        values = self._to_learn_from(self._last).tolist()
        return [None if math.isnan(value) else value for value in values]

    def _to_learn_from(self, own: RewardResult) -> Tensor:
        """The rewards of this process's completions, of which TRL makes advantages."""
        if self.normalizer.normalization == "none":
            return own.total
        parts = self.processes.gather(own)  # in TRL's order: a group may lie on two processes
        whole = joined(parts)
        rewards = self.normalizer.of(whole, torch.arange(len(whole.total)) // self.group_size)
        return rewards.split([len(part.total) for part in parts])[self.processes.rank]

    def result(self) -> RewardResult:
        """The scores of the last batch, of all processes."""
        assert self._last is not None, "TRL has not asked for the step's rewards"
        return joined(self.processes.gather(self._last))


def _told(term: RewardTerm, told: dict[str, Any]) -> RewardTerm:
    taken = {name: value for name, value in told.items() if takes(term, name)}
    return replace(term, function=functools.partial(term.function, **taken)) if taken else term

"""Samples of the current policy and their scores: the beginning of an online trainer's step."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from adrpo.config import FlowConfig
from adrpo.config.algorithm_keys import Shaped
from adrpo.data.base import Prompt
from adrpo.flow.methods import Weights
from adrpo.flow.models.finite import all_finite
from adrpo.flow.originals import opened
from adrpo.flow.path.draws import PromptOrder, initial_noise
from adrpo.flow.training.failure import LOWER_RATE, Diverged, StepFailed
from adrpo.flow.training.loop import TrainingLoop
from adrpo.flow.training.stopwatch import Stopwatch
from adrpo.rewards.base import Reward, RewardResult, RewardTerm
from adrpo.rewards.loading import build_measured
from adrpo.rewards.normalizing import RewardNormalizer
from adrpo.rewards.scoring import broken, score_columns, score_together


class OnlineLoop(TrainingLoop):
    """A loop whose steps begin with ``samples_per_prompt`` images for each of
    ``prompts_per_step`` prompts.

    A process draws and learns from the samples of its ``share``; rewards are those of the batch.

    A step in which no sample has a score teaches nothing: the adapter, the optimizer's moments, the
    averages and what the method carries stay as they are, and only the learning rate moves on.
    """

    learned: ClassVar[tuple[str, ...]]
    """Columns of metrics.jsonl that such a step has no values for, beside those of rewards."""

    unit: ClassVar[int] = 1
    """Samples, one after another, that are never parted: 2 where a process has whole pairs."""

    def __init__(self, config: FlowConfig, *, reward: Reward | None = None) -> None:
        super().__init__(config, reward=reward)
        batch = config.training.prompts_per_step * config.training.samples_per_prompt
        what = "samples a step" if self.unit == 1 else f"units of {self.unit} samples a step"
        self.units = self.processes.share(batch // self.unit, what)
        self.share = self.units.times(self.unit)
        self.normalizer = RewardNormalizer(self.reward, config.training.reward_normalization)
        training = config.training
        self.order = PromptOrder(
            self.prompts.shapes, per_step=training.prompts_per_step, seed=training.seed
        )
        settings = config.algorithm
        schedule = getattr(settings, "coefficient", None)
        self.scorers = build_measured(() if schedule is None else schedule.scorers, self.device)
        novelty = settings.advantage_novelty if isinstance(settings, Shaped) else None
        self.novelty = build_measured(() if novelty is None else [novelty], self.device)

    def asked_of_prompts(self) -> Sequence[RewardTerm]:
        return (*self.reward, *self.scorers, *self.novelty)

    def chosen_prompts(self, step: int) -> tuple[Tensor, Tensor]:
        """``prompt_index`` and ``group_ids`` [batch] of a step, group after group; the images of
        all of them have one size."""
        order = self.order.of(step)
        each = self.config.training.samples_per_prompt
        return (
            torch.tensor(order).repeat_interleave(each),
            torch.arange(len(order)).repeat_interleave(each),
        )

    def shape_of(self, step: int) -> tuple[int, ...]:
        """The shape of the latents of a step."""
        return self.prompts.shapes[self.order.of(step)[0]]

    def rollout_noise(self, step: int) -> Tensor:
        """x_0 of this process's samples of a step."""
        seed, shape = self.config.training.seed, self.shape_of(step)
        return self.share.of(initial_noise(self.share.total, shape, seed, "rollout", step))

    def finite_samples(self, x_1: Tensor) -> Tensor:
        """Mask [rows] of this process's samples that are finite; the others have no image and no
        score, and take no part in the update. Diverged where the whole batch has none."""
        finite = all_finite(x_1)
        if not any(self.processes.gather(bool(finite.any()))):
            raise Diverged(
                f"expected finite samples; the policy drew NaN or infinity; {LOWER_RATE}"
            )
        return finite

    def scored(self, images: list[Any], prompt_index: Tensor) -> RewardResult:
        """The reward of each sample of the step, of which this process has ``images``;
        StepFailed where none has one because a reward raised."""
        chosen = [self.prompts[place] for place in prompt_index.tolist()]
        result = self._together(self.reward, images, chosen)
        if (failure := broken(result)) is not None:
            raise StepFailed(failure)
        return result

    def second_opinions(
        self, images: list[Any], prompt_index: Tensor
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Values of the scorers of the coefficient's schedule, by their names, and the novelty of
        each sample of the step, of which this process has ``images``; StepFailed where one of them
        has no value because it raised."""
        found: list[RewardResult | None] = []
        chosen = [self.prompts[place] for place in prompt_index.tolist()]
        for terms in (self.scorers, self.novelty):
            result = self._together(terms, images, chosen) if terms else None
            if result is not None and (failure := broken(result)) is not None:
                raise StepFailed(failure)
            found.append(result)
        scores, novelty = found
        return {} if scores is None else scores.by_term, None if novelty is None else novelty.total

    def _together(
        self, terms: Sequence[RewardTerm], images: list[Any], chosen: list[Prompt]
    ) -> RewardResult:
        return score_together(self.processes, terms, images, chosen, unit=self.unit, opened=opened)

    def unscored(
        self, result: RewardResult, calls_before: int, stopwatch: Stopwatch
    ) -> dict[str, Any]:
        """End a step in which no sample has a score; all of its row but the number."""
        # Without gradients it moves nothing, and torch wants it before the schedule's step.
        self.optimizer.step()
        self.schedule.step()
        return {
            **self.reward_columns(result, torch.full_like(result.total, math.nan)),
            **dict.fromkeys(self.learned),
            **self.cost_columns(len(result.total), calls_before, stopwatch),
        }

    def reward_columns(self, result: RewardResult, advantages: Tensor) -> dict[str, Any]:
        """The columns of metrics.jsonl that tell of rewards; ``advantages`` before the clip."""
        scored = result.total.isfinite()
        return {
            "reward_mean": float(result.total[scored].mean()),
            "reward_std": _deviation(result.total[scored]),
            "advantage_std": _deviation(advantages[scored]),
            **score_columns(result),
        }

    def trainer_state(self) -> dict[str, Any]:
        return self.normalizer.state()

    def load_trainer_state(self, state: dict[str, Any]) -> None:
        self.normalizer.load_state(state)


def _deviation(values: Tensor) -> float:
    """The population standard deviation; NaN of nothing."""
    return float(values.std(correction=0)) if len(values) else math.nan


WEIGHT_COLUMNS = (
    "advantage_clipped_fraction", "weight_mean", "beta_mean", "beta_min", "beta_max",
)  # fmt: skip
"""Columns that ``weight_columns`` gives."""


def weight_columns(weights: Weights, scored: Tensor) -> dict[str, Any]:
    """The columns that tell of a method's weights."""
    return {
        "advantage_clipped_fraction": float(weights.clipped[scored].float().mean()),
        "weight_mean": float(weights.weight.mean()),
        "beta_mean": float(weights.beta.mean()),
        "beta_min": float(weights.beta.min()),
        "beta_max": float(weights.beta.max()),
    }

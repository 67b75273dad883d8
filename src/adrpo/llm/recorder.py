"""Writes a run's files while TRL trains."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from adrpo.config.llm import CompletionConfig
from adrpo.errors import AdrpoError
from adrpo.evaluation.course import Course
from adrpo.llm.training_reward import TrainingReward
from adrpo.rewards.base import RewardResult
from adrpo.rewards.scoring import broken, score_columns
from adrpo.runs.checkpoints import keep_latest
from adrpo.runs.directory import RunDirectory
from adrpo.runs.progress import TrainingProgress
from adrpo.runs.record import note

COLUMNS = {
    "reward": "reward_mean",
    "reward_std": "reward_std",
    "frac_reward_zero_std": "degenerate_fraction",
    "adrpo/saturated_frac": "advantage_clipped_fraction",
    "adrpo/coef_mean": "beta_mean",
    "adrpo/coef_min": "beta_min",
    "adrpo/coef_max": "beta_max",
    "adrpo/frac_negative_coef": "beta_negative_fraction",
    "adrpo/beta_0": "beta_0",
    "adrpo/kl": "divergence",
    "adrpo/kl_pos": "divergence_positive",
    "adrpo/kl_neg": "divergence_negative",
    "adrpo/weighted_kl": "weighted_divergence",
    "adrpo/reference_frac": "reference_fraction",
    "adrpo/encoder_calls": "encoder_calls",
    "entropy": "entropy",
    "completions/mean_length": "completion_length",
    "completions/clipped_ratio": "completions_cut_fraction",
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "step_time": "seconds_step",
}
"""TRL's name -> the column of metrics.jsonl (docs/reference/metrics.md)."""


class Recorder(TrainerCallback):
    """After each step: its row of metrics.jsonl, then the evaluation that is due; ``trial`` before
    the first one.

    Both come before the step's checkpoint, so that a resumed run has them, and so that a step
    whose loss or gradient is not finite, or whose reward raised for all samples, is in no
    checkpoint: it ends the run with an AdrpoError.
    """

    def __init__(
        self,
        config: CompletionConfig,
        run: RunDirectory,
        reward: TrainingReward,
        course: Course,
        bar: TrainingProgress,
        *,
        seconds_before: float,
        trial: Callable[[], None] = lambda: None,
        base: str | Path | None = None,
    ) -> None:
        self.config = config
        self.run = run
        self.reward = reward
        self.course = course
        self.bar = bar
        self.base = base
        self.trial = trial
        self._started = time.monotonic() - seconds_before

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        # A checkpoint remembers how often its run was saved; this call may have another number.
        state.save_steps = int(args.save_steps)
        if state.global_step == 0:
            self.trial()
            self.bar.say("evaluate")
            self.course.begin(self.run, self.base)
        self.bar.say("train   ")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        # All rows are in metrics.jsonl. Each checkpoint has this list anew, and a step would be the
        # slower the later it is.
        del state.log_history[:-1]
        if logs is None or "reward" not in logs:  # the summary at the end
            return
        step = state.global_step
        result = self.reward.result()
        last = f"--resume from the last checkpoint in {self.run.checkpoints}"
        if (failure := broken(result)) is not None:
            raise AdrpoError(f"step {step}: {failure}; mend the cause, then go on with {last}")
        row = self.row(step, logs, result)
        loss, norm = row["loss"], row["grad_norm"]
        if not (math.isfinite(loss) and math.isfinite(norm)):
            received = f"received loss {loss} and gradient norm {norm}"
            if self.course.processes.is_main:
                self.run.record_divergence(step, received)
            raise AdrpoError(
                f"step {step}: expected a finite loss and gradient, {received}; lower "
                f"training.learning_rate and train into another --output-dir, or mend another "
                f"cause and go on with {last}"
            )
        if self.course.processes.is_main:
            self.run.append_metrics(row)
        self.bar.update(row)
        if step % self.config.evaluation.every == 0 or step == self.config.training.steps:
            self.bar.say("evaluate")
            self.course.evaluate(self.run, step)
            self.bar.say("train   ")
            if self.course.ended(self.run):
                control.should_training_stop = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if self.course.processes.is_main:
            note(self.run)
            keep_latest(self.run.checkpoints, self.config.checkpoint.keep)

    def row(self, step: int, logs: Mapping[str, Any], result: RewardResult) -> dict[str, Any]:
        """The step's row of metrics.jsonl; a mean of nothing is not logged, and null there."""
        row: dict[str, Any] = {"step": step, "wall_seconds": time.monotonic() - self._started}
        # Without a reference there is no coefficient and no KL but the divergence.
        has_kl = "adrpo/beta_0" in logs
        for name, column in COLUMNS.items():
            if name in logs or name == "adrpo/kl" or (has_kl and name.startswith("adrpo/kl")):
                row[column] = logs.get(name, float("nan"))
        if self.config.training.reward_normalization != "none":
            # TRL was given sums of normalised terms; what is logged keeps its meaning.
            scored = result.total[result.total.isfinite()]
            row["reward_mean"] = float(scored.mean())
            row["reward_std"] = float(scored.std()) if len(scored) > 1 else math.nan
        row |= score_columns(result)
        return row | {"samples_per_second": row["samples"] / row["seconds_step"]}

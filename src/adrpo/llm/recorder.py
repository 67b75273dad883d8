"""Writes a run's files while TRL trains."""

import math
import time
from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from adrpo.config import LanguageConfig
from adrpo.errors import AdrpoError
from adrpo.llm.evaluator import LanguageEvaluator
from adrpo.runs.directory import RunDirectory
from adrpo.runs.progress import TrainingProgress

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
    "entropy": "entropy",
    "completions/mean_length": "completion_length",
    "completions/clipped_ratio": "completions_cut_fraction",
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "step_time": "seconds_step",
}
"""TRL's name -> the column of metrics.jsonl (docs/reference/metrics.md)."""

REWARD_MEAN = ("rewards/", "/mean")


class Recorder(TrainerCallback):
    """After each step: its row of metrics.jsonl, then the evaluation that is due.

    Both come before the step's checkpoint, so that a resumed run has them, and so that a step
    whose loss or gradient is not finite is in no checkpoint: it ends the run with an AdrpoError.
    """

    def __init__(
        self,
        config: LanguageConfig,
        run: RunDirectory,
        evaluator: LanguageEvaluator,
        bar: TrainingProgress,
        *,
        seconds_before: float,
    ) -> None:
        self.config = config
        self.run = run
        self.evaluator = evaluator
        self.bar = bar
        self._started = time.monotonic() - seconds_before

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        if state.global_step == 0:
            self._evaluate(0)
        self.bar.say("train   ")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if logs is None or "reward" not in logs:  # the summary at the end
            return
        step = state.global_step
        row = self.row(step, logs)
        loss, norm = row["loss"], row["grad_norm"]
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise AdrpoError(
                f"step {step}: expected a finite loss and gradient, received loss {loss} and "
                f"gradient norm {norm}; lower training.learning_rate and train into another "
                f"--output-dir, or mend another cause and go on with --resume from the last "
                f"checkpoint in {self.run.checkpoints}"
            )
        self.run.append_metrics(row)
        self.bar.update(row)
        if step % self.config.evaluation.every == 0 or step == self.config.training.steps:
            self._evaluate(step)
            self.bar.say("train   ")

    def row(self, step: int, logs: Mapping[str, Any]) -> dict[str, Any]:
        """The step's row of metrics.jsonl."""
        start, end = REWARD_MEAN
        training = self.config.training
        samples = training.prompts_per_step * training.samples_per_prompt
        row: dict[str, Any] = {"step": step, "wall_seconds": time.monotonic() - self._started}
        row |= {column: logs[name] for name, column in COLUMNS.items() if name in logs}
        # Without a reference there is no coefficient and no KL.
        row.setdefault("divergence", float("nan"))
        row |= {
            f"reward_{name[len(start) : -len(end)]}_mean": value
            for name, value in logs.items()
            if name.startswith(start) and name.endswith(end)
        }
        return row | {"samples": samples, "samples_per_second": samples / row["seconds_step"]}

    def _evaluate(self, step: int) -> None:
        self.bar.say("evaluate")
        self.run.append_evaluation(self.evaluator.evaluate(self.run, step))

"""The loop that every trainer repeats: steps, evaluations, checkpoints, going on from them."""

import math
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch

from adrpo.config import FlowConfig
from adrpo.data.base import Prompt, columns_of
from adrpo.data.splits import evaluated
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.evaluation.course import Course, is_complete
from adrpo.evaluation.early_stopping import EarlyStopping
from adrpo.evaluation.evaluator import Evaluator
from adrpo.flow.distances import references_of
from adrpo.flow.drawing import DrawnImages, ImageDrawing, judge_of
from adrpo.flow.facts import FACTS
from adrpo.flow.models.loading import load_with_prompts
from adrpo.flow.models.lora import WEIGHTS_NAME
from adrpo.flow.models.prompt_set import check_one_size
from adrpo.flow.originals import by_content, by_original_and_words
from adrpo.flow.run_prompts import load_held_out, load_train
from adrpo.flow.training.anchors import EmaAnchor, warming_up
from adrpo.flow.training.failure import LOWER_RATE, Diverged, StepFailed
from adrpo.flow.training.optimizers import build_optimizer, build_schedule
from adrpo.flow.training.stopwatch import Stopwatch
from adrpo.flow.training.trial import try_arithmetic
from adrpo.metrics import UNSEEN
from adrpo.rewards.base import Reward, RewardTerm
from adrpo.rewards.loading import build_measured, training_reward
from adrpo.rewards.scoring import check_takes
from adrpo.runs.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint
from adrpo.runs.directory import RunDirectory
from adrpo.runs.durable import write_durably
from adrpo.runs.inputs import Inputs, callable_name
from adrpo.runs.manifest import sealed_folder
from adrpo.runs.processes import join_processes
from adrpo.runs.progress import TrainingProgress
from adrpo.runs.record import SINGLE_FILE, forget, note
from adrpo.runs.seeding import restore_rng_state, rng_state, seed_everything
from adrpo.runs.session import Session, session
from adrpo.runs.start import START, changed_start, start_of
from adrpo.runs.trainable import check_trains
from adrpo.runs.trials import Trial, check_trials

TRAIN = "train"
"""Name of the prompts that are trained on, among the sets that are encoded."""


class TrainingLoop(ABC):
    """A policy with an adapter, its optimizer, and the run directory they fill.

    A trainer says what one ``step`` is; everything here is the same for all of them. Under
    `accelerate launch` or torchrun the processes that were started train together
    (docs/use/scale-out.md), and the main one of them writes the run directory.

    Args:
        config: the resolved configuration.
        reward: a callable that replaces the configuration's reward.
        further: sets of prompts that the trainer itself needs encoded, by their names.
    """

    shardable: ClassVar[bool] = False
    """True where all processes make the same network calls in a step."""

    def __init__(
        self,
        config: FlowConfig,
        *,
        reward: Reward | None = None,
        further: Mapping[str, Sequence[Prompt]] | None = None,
    ) -> None:
        self.config = config
        self._started = time.monotonic()
        training = config.training
        self.processes = join_processes(config.model.device)
        engine = self.processes.engine
        if engine is not None and not self.shardable:
            raise AdrpoError(
                f"algorithm.method: expected one whose processes all make the same network calls, "
                f"which {engine} needs; received {config.algorithm.method}; use "
                f"recipes/accelerate/ddp.yaml"
            )
        start_of(config.adapter)  # before anything is loaded
        train = load_train(config)
        splits = evaluated(train, load_held_out(config), seen=config.evaluation.seen_prompts)
        self.policy, self.sets = load_with_prompts(
            config.model,
            {TRAIN: train, **splits, **(further or {})},
            negative_prompt=config.prompts.negative_prompt,
            engine=engine,
        )
        self.prompts = self.sets[TRAIN]
        if engine is not None:
            check_one_size(self.sets.values(), engine)
        self.splits = {split: self.sets[split] for split in splits}
        self.device = self.policy.device
        self.own_reward = callable_name(reward)
        self.reward = training_reward(
            config.reward,
            self.device,
            measured=config.evaluation.rewards,
            replacement=reward,
        )
        self.others = build_measured(config.evaluation.rewards, self.device)
        torch.manual_seed(training.seed)
        self.policy.add_adapter(config.adapter)
        self.average = (
            None
            if training.ema_decay is None
            else EmaAnchor(self.policy, warming_up(training.ema_decay))
        )
        self.optimizer = build_optimizer(self.policy.adapter_parameters(), training)
        self.schedule = build_schedule(self.optimizer, training)
        settings = config.evaluation
        self.stopping = EarlyStopping(settings.early_stopping, settings.patience)
        self.course = Course(
            self._evaluators(),
            self.stopping,
            self.policy.save_adapter,
            processes=self.processes,
            kept=self._averaged,
        )

    def asked_of_prompts(self) -> Sequence[RewardTerm]:
        """Rewards that training asks about its prompts, whose columns they have to take."""
        return self.reward

    @property
    def evaluator(self) -> Evaluator[DrawnImages]:
        """The evaluator of the prompts that training never sees."""
        return self.course.evaluators[0]

    def _evaluators(self) -> list[Evaluator[DrawnImages]]:
        self.references = references_of(self.config, self.device, self.processes)
        drawing = partial(
            ImageDrawing,
            self.config,
            self.policy,
            processes=self.processes,
            clip=judge_of(self.config, self.device),
            references=self.references,
        )
        evaluator = partial(Evaluator[DrawnImages], others=self.others, processes=self.processes)
        return [
            evaluator(drawing(chosen, split=split), self.reward)
            for split, chosen in self.splits.items()
        ]

    @abstractmethod
    def step(self, step: int) -> dict[str, Any]:
        """Make one step and return its row of metrics.jsonl; StepFailed where it can't be made."""

    def prepare(self, run: RunDirectory) -> None:  # noqa: B027, a hook and no obligation
        """Make what training needs beside the model; called once for each process."""

    def trainer_state(self) -> dict[str, Any]:
        """State that the trainer itself carries from step to step."""
        return {}

    def load_trainer_state(self, state: dict[str, Any]) -> None:  # noqa: B027, a hook, too
        """Take back what ``trainer_state`` gave."""

    def inputs(self) -> Inputs:
        """The prompts as the run keeps them, to be known again."""
        held_out = list(self.splits.get(UNSEEN, ()))
        return Inputs(
            train=[by_content(prompt) for prompt in self.prompts],
            held_out=[by_content(prompt) for prompt in held_out],
            copy=held_out,
            key=by_original_and_words,
            reward=self.own_reward,
            references=None if self.references is None else self.references.digest,
        )

    def train(
        self,
        output_dir: str | Path,
        *,
        resume: bool = False,
        progress: bool = True,
        base: str | Path | None = None,
    ) -> Path:
        """Run the configured steps into ``output_dir`` and return its path.

        With ``resume`` the run that lies there goes on from its last checkpoint, and ends with
        the same metrics and the same adapter as if it had never stopped. ``base`` is a run whose
        evaluation of the untrained model is taken over (``adopt_base_evaluation``).

        Raises AdrpoError for a folder that holds another run or that another process works in, a
        corrupt checkpoint, a ``base`` that measured something else, a reward that raises and scores
        no sample of a step, or a loss that is not finite.
        """
        self._started = time.monotonic()
        check_takes(self.asked_of_prompts(), {**columns_of(self.prompts), "images": []})
        check_trains(
            self.policy.adapter_parameters(),
            f"an adapter of {self.config.model.pretrained}",
            "set requires_grad of the policy's adapter_parameters",
        )
        with session(
            output_dir,
            self.config,
            facts=FACTS,
            inputs=self.inputs(),
            splits=list(self.splits),
            resume=resume,
            base=base,
            processes=self.processes,
        ) as opened:
            if not (resume and is_complete(opened, self.config.training.steps, self.stopping)):
                done = self._restore(opened) if resume else -1
                self._run_steps(opened.run, done, progress, base)
            if self.processes.is_main and not (opened.run.path / SINGLE_FILE).exists():
                self._copy_weights(opened.run)
        return opened.run.path

    def _run_steps(
        self, run: RunDirectory, done: int, progress: bool, base: str | Path | None
    ) -> None:
        """All that is left after ``done`` steps (-1: not even the base is evaluated)."""
        steps, main = self.config.training.steps, self.processes.is_main
        shown = progress and main
        with TrainingProgress(steps, completed=max(done, 0), enabled=shown, run=run) as bar:
            self.prepare(run)
            if done < 0:
                bar.say("evaluate")
                self._begin(run, base)
                done = 0
            for step in range(done + 1, steps + 1):
                if self.course.ended(run):
                    break
                bar.say("train   ")
                try:
                    row = self.step(step)
                except StepFailed as failure:
                    if main and isinstance(failure, Diverged):
                        run.record_divergence(step, str(failure))
                    raise AdrpoError(
                        f"step {step}: {failure}; {self._last_checkpoint(run)}"
                    ) from failure
                if main:
                    run.append_metrics(row)
                bar.update(row)
                if step % self.config.evaluation.every == 0 or step == steps:
                    bar.say("evaluate")
                    self.course.evaluate(run, step)
                if step % self.config.checkpoint.every == 0 or step == steps:
                    self._save(run, step)
        self.course.finish(run)

    def _copy_weights(self, run: RunDirectory) -> None:
        """The adapter as one file beside ``final/``."""
        forget(run, SINGLE_FILE)
        write_durably(run.path / SINGLE_FILE, (run.final / WEIGHTS_NAME).read_bytes())
        note(run)

    def _begin(self, run: RunDirectory, base: str | Path | None) -> None:
        """All that comes before the first step."""
        self._try()
        if self.processes.is_main and self.config.adapter.start_from is not None:
            with sealed_folder(run.path / START) as begun:
                self.policy.save_adapter(begun)
        # For rewards that draw from a global generator; our own draws are named streams.
        seed_everything(self.config.training.seed + self.processes.rank)
        self.course.begin(run, base)
        self._save(run, 0)

    def tried(self) -> list[Trial]:
        """Try the arithmetic of the untrained model; nothing is trained or kept."""
        at_once = self.config.training.micro_batch_size
        return try_arithmetic(self.policy, self.prompts, micro_batch_size=at_once)

    def _try(self) -> None:
        """Raise AdrpoError, in all processes, where the model's arithmetic is wrong.

        Not of a model in shards, whose layers can't be called one by one.
        """
        if not self.processes.sharded:
            with self.processes.failing_together():
                check_trials(self.tried())

    def apply_gradient(self, loss: float) -> float:
        """Clip, make the optimizer's step, and return the gradient's norm before clipping.

        The gradient is the sum of the processes' own; ``loss`` is that of all of them.
        """
        parameters = self.policy.adapter_parameters()
        self.processes.sum_gradients(parameters)
        clip = self.config.training.max_grad_norm
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, clip))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise Diverged(
                f"expected a finite loss and gradient; received loss {loss} and gradient norm "
                f"{norm}; {LOWER_RATE}"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def follow(self) -> None:
        """After the last optimizer step of a step: the learning rate and the average move on."""
        self.schedule.step()
        if self.average is not None:
            self.average.update()

    def cost_columns(self, samples: int, calls_before: int, stopwatch: Stopwatch) -> dict[str, Any]:
        """The columns that tell what a step cost."""
        timings = stopwatch.row()
        return {
            "wall_seconds": self.seconds(),
            "learning_rate": self.schedule.get_last_lr()[0],
            "model_calls": sum(self.processes.gather(self.policy.model_calls - calls_before)),
            "samples_per_second": samples / timings["seconds_step"],
            **timings,
        }

    def seconds(self) -> float:
        """Wall seconds since the run began, pauses between two processes left out."""
        return time.monotonic() - self._started

    def _averaged(self) -> AbstractContextManager[None]:
        """A context with the adapter that is evaluated and kept in the end: the average, if any."""
        return nullcontext() if self.average is None else self.average.active()

    def _restore(self, opened: Session) -> int:
        """Go back to the run's last checkpoint; the steps done in it (-1: there is none)."""
        checkpoint = opened.checkpoint()
        if checkpoint is None:
            opened.go_back(-1)
            return -1
        source = self.config.adapter.start_from  # before the adapter goes back to its step
        if source is not None and not self.policy.same_adapter(opened.run.path / START):
            raise changed_start(opened.run.path, source)
        state = load_checkpoint(checkpoint)
        self.policy.load_adapter_state(state["adapter"])
        if self.average is not None:
            self.average.load_state(state["average"])
        self.load_trainer_state(state["trainer"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self._restore_rng([state["rng"], *state.get("rng_of_others", [])])
        opened.go_back(state["step"])
        (opened.run.path / SINGLE_FILE).unlink(missing_ok=True)
        self._started -= state["wall_seconds"]
        return state["step"]

    def _restore_rng(self, states: list[dict[str, Any]]) -> None:
        """Go back to the state of this process; one that had none begins anew."""
        rank = self.processes.rank
        if self.processes.is_main and len(states) != self.processes.count:
            warnings.warn(
                f"--resume: the checkpoint has the random states of {len(states)} processes, and "
                f"{self.processes.count} go on: steps and images are the same, and a reward that "
                f"draws from Python's, NumPy's or torch's own generator finds other numbers",
                AdrpoWarning,
                stacklevel=2,
            )
        if rank < len(states):
            restore_rng_state(states[rank])
        else:
            seed_everything(self.config.training.seed + rank)

    def _save(self, run: RunDirectory, step: int) -> None:
        rng = self.processes.gather(rng_state())
        if not self.processes.is_main:
            return
        note(run)
        state = {
            "step": step,
            "wall_seconds": self.seconds(),
            "adapter": self.policy.adapter_state(),
            "average": None if self.average is None else self.average.state(),
            "trainer": self.trainer_state(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "rng": rng[0],
            "rng_of_others": rng[1:],
        }
        with self._averaged():
            save_checkpoint(
                run,
                step,
                state,
                keep=self.config.checkpoint.keep,
                weights=self.policy.save_adapter,
            )

    def _last_checkpoint(self, run: RunDirectory) -> str:
        name = getattr(latest_checkpoint(run), "name", "nothing")
        return f"{name} is kept in {run.path}: mend the cause, then go on with --resume"

"""What every trainer repeats: steps, evaluations, checkpoints, and going on from them."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import torch

from adrpo.config import FlowConfig, config_to_yaml, load_flow_config
from adrpo.config.rewards import taken_name
from adrpo.data.prompts import Prompt, load_prompts
from adrpo.errors import AdrpoError
from adrpo.evaluation.early_stopping import EarlyStopping
from adrpo.flow.evaluator import Evaluator
from adrpo.flow.models.loading import load_policy
from adrpo.flow.training.anchors import EmaAnchor
from adrpo.flow.training.failure import LOWER_RATE, StepFailed
from adrpo.flow.training.optimizers import build_optimizer, build_schedule
from adrpo.rewards.base import Reward, RewardTerm
from adrpo.rewards.loading import build_measured, build_reward
from adrpo.runs.base_evaluation import adopt_base_evaluation, check_base_evaluation
from adrpo.runs.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint
from adrpo.runs.directory import RunDirectory
from adrpo.runs.durable import replace_folder, write_durably
from adrpo.runs.lock import exclusive
from adrpo.runs.processes import join_processes
from adrpo.runs.progress import TrainingProgress
from adrpo.runs.resuming import check_same_run
from adrpo.runs.seeding import restore_rng_state, rng_state, seed_everything


class TrainingLoop(ABC):
    """A policy with an adapter, its optimizer, and the run directory they fill.

    A trainer says what one ``step`` is; everything here is the same for all of them. Under
    `accelerate launch` or torchrun the processes that were started train together
    (docs/use/scale-out.md), and the main one of them writes the run directory.

    Args:
        config: the resolved configuration.
        reward: a callable that replaces the configuration's reward.
    """

    shardable: ClassVar[bool] = False
    """Whether all processes make the same network calls in a step."""

    def __init__(self, config: FlowConfig, *, reward: Reward | None = None) -> None:
        self.config = config
        self._started = time.monotonic()
        training = config.training
        self.processes = join_processes(config.model.device)
        self.prompts = load_prompts(
            config.prompts.train, size=config.prompts.train_size, seed=training.seed
        )
        self.splits = self._splits()
        engine = self.processes.engine
        if engine is not None and not self.shardable:
            raise AdrpoError(
                f"algorithm.method: expected one whose processes all make the same network calls, "
                f"which {engine} needs; received {config.algorithm.method}; use "
                f"recipes/accelerate/ddp.yaml"
            )
        self.policy = load_policy(config.model, prompt_sets=self.prompt_sets(), engine=engine)
        self.device = self.policy.device
        self.reward = self._training_reward(reward)
        self.others = build_measured(config.evaluation.rewards, self.device)
        torch.manual_seed(training.seed)
        self.policy.add_adapter(config.adapter)
        self.average = (
            None
            if training.ema_decay is None
            else EmaAnchor(self.policy, training.ema_decay, warm_up=True)
        )
        self.conditioning = self.policy.encode([prompt.text for prompt in self.prompts])
        self.optimizer = build_optimizer(self.policy.adapter_parameters(), training)
        self.schedule = build_schedule(self.optimizer, training)
        self.evaluator, *self.other_evaluators = self._evaluators()
        self.stopping = EarlyStopping(config.evaluation)

    def _training_reward(self, replacement: Reward | None) -> list[RewardTerm]:
        if replacement is None:
            return build_reward(self.config.reward, self.device)
        name = getattr(replacement, "__name__", "reward")
        wrong = taken_name(self.config.evaluation.rewards, [name])
        if wrong is not None:
            raise AdrpoError(wrong)
        return [RewardTerm(name, 1.0, replacement)]

    def _splits(self) -> dict[str, Sequence[Prompt]]:
        """What is evaluated: prompts that training never sees, and some that it does."""
        settings, prompts = self.config.evaluation, self.config.prompts
        held_out = load_prompts(prompts.held_out, size=prompts.held_out_size, seed=settings.seed)
        splits = {"unseen": held_out, "seen": self.prompts[: settings.seen_prompts]}
        return {split: chosen for split, chosen in splits.items() if chosen}

    def prompt_sets(self) -> list[list[str]]:
        """All that the policy will be asked to encode, set by set."""
        return [
            [prompt.text for prompt in chosen] for chosen in (self.prompts, *self.splits.values())
        ]

    def _evaluators(self) -> list[Evaluator]:
        return [
            Evaluator(
                self.config.evaluation,
                self.policy,
                self.reward,
                chosen,
                others=self.others,
                split=split,
                processes=self.processes,
            )
            for split, chosen in self.splits.items()
        ]

    @abstractmethod
    def step(self, step: int) -> dict[str, Any]:
        """Make one step and return its row of metrics.jsonl; StepFailed where it can't be made."""

    def prepare(self, run: RunDirectory) -> None:  # noqa: B027, a hook and no obligation
        """Make what training needs beside the model; called once for each process."""

    def trainer_state(self) -> dict[str, Any]:
        """What the trainer itself carries from step to step."""
        return {}

    def load_trainer_state(self, state: dict[str, Any]) -> None:  # noqa: B027, a hook, too
        """Take back what ``trainer_state`` gave."""

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
        corrupt checkpoint, a ``base`` that measured something else, a reward that scores no sample
        of a step, or a loss that is not finite.
        """
        self._started = time.monotonic()
        if base is not None:
            settings = self.config.model_dump(mode="json")
            check_base_evaluation(RunDirectory.open(base), settings, list(self.splits))
        if self.processes.is_main and not resume:
            RunDirectory.create(Path(output_dir), config_to_yaml(self.config))
        self.processes.wait()
        run = RunDirectory.open(Path(output_dir))
        with exclusive(run.path) if self.processes.is_main else nullcontext():
            self._run_steps(run, self._restore(run) if resume else -1, progress, base)
            self.processes.wait()
        return run.path

    def _run_steps(
        self, run: RunDirectory, done: int, progress: bool, base: str | Path | None
    ) -> None:
        """All that is left after ``done`` steps (-1: not even the base is evaluated)."""
        steps, main = self.config.training.steps, self.processes.is_main
        with TrainingProgress(steps, completed=max(done, 0), enabled=progress and main) as bar:
            self.prepare(run)
            if done < 0:
                # For rewards that draw from a global generator; our own draws are named streams.
                seed = self.config.training.seed + self.processes.rank
                seed_everything(seed)
                bar.say("evaluate")
                self._evaluate_base(run, base)
                # Again: the training is the same whether the base was evaluated here or not.
                seed_everything(seed)
                self._save(run, 0)
                done = 0
            for step in range(done + 1, steps + 1):
                if self.processes.from_main(lambda: self.stopping.reached(run)):
                    break
                bar.say("train   ")
                try:
                    row = self.step(step)
                except StepFailed as failure:
                    raise AdrpoError(
                        f"step {step}: {failure}; {self._last_checkpoint(run)}"
                    ) from failure
                if main:
                    run.append_metrics(row)
                bar.update(row)
                if step % self.config.evaluation.every == 0 or step == steps:
                    bar.say("evaluate")
                    self._evaluate(run, step)
                if step % self.config.checkpoint.every == 0 or step == steps:
                    self._save(run, step)
        self._save_final(run)

    def apply_gradient(self, loss: float) -> float:
        """Clip, make the optimizer's step, and return the gradient's norm before clipping.

        The gradient is the sum of the processes' own; ``loss`` is that of all of them.
        """
        parameters = self.policy.adapter_parameters()
        self.processes.sum_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.training.max_grad_norm)
        if not (math.isfinite(loss) and norm.isfinite()):
            raise StepFailed(
                f"expected a finite loss and gradient; received loss {loss} and gradient norm "
                f"{norm.item()}; {LOWER_RATE}"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def follow(self) -> None:
        """After the last optimizer step of a step: the learning rate and the average move on."""
        self.schedule.step()
        if self.average is not None:
            self.average.update()

    def seconds(self) -> float:
        """Wall seconds since the run began, pauses between two processes left out."""
        return time.monotonic() - self._started

    def _averaged(self) -> AbstractContextManager[None]:
        """What is evaluated and kept in the end: the average, where there is one."""
        return nullcontext() if self.average is None else self.average.active()

    def _restore(self, run: RunDirectory) -> int:
        """Go back to the run's last checkpoint; the steps done in it (-1: there is none)."""
        self._check_settings(run)
        checkpoint = latest_checkpoint(run)
        found = self.processes.gather(checkpoint and checkpoint.name)
        if len(set(found)) > 1:
            raise AdrpoError(
                f"--resume: expected a folder that all processes see alike; received {run.path}, "
                f"whose latest checkpoint is {' and '.join(map(str, found))}; put it on a file "
                f"system that all machines share"
            )
        if checkpoint is None:
            self._truncate(run, -1)
            return -1
        state = load_checkpoint(checkpoint)
        self.policy.load_adapter_state(state["adapter"])
        if self.average is not None:
            self.average.load_state(state["average"])
        self.load_trainer_state(state["trainer"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self._restore_rng([state["rng"], *state.get("rng_of_others", [])])
        self._truncate(run, state["step"])
        self._started -= state["wall_seconds"]
        if self.processes.is_main:
            # The steps may be more than the run began with.
            write_durably(run.config, config_to_yaml(self.config).encode())
        return state["step"]

    def _check_settings(self, run: RunDirectory) -> None:
        """Raise AdrpoError where ``run`` can't go on with this configuration."""
        # More steps extend a run; with a rate that falls to the run's end they change all of it.
        constant = self.config.training.learning_rate_schedule == "constant"
        check_same_run(
            run,
            self.config.model_dump(mode="json"),
            may_differ=["training.steps"] if constant else [],
        )
        wanted, begun = self.config.training.steps, load_flow_config(run.config).training.steps
        if wanted < begun:
            raise AdrpoError(
                f"--resume: expected training.steps of at least {begun}, which the run in "
                f"{run.path} has; received {wanted}; resume with its own settings"
            )

    def _restore_rng(self, states: list[dict[str, Any]]) -> None:
        """Go back to the state of this process; one that had none begins anew."""
        rank = self.processes.rank
        if rank < len(states):
            restore_rng_state(states[rank])
        else:
            seed_everything(self.config.training.seed + rank)

    def _truncate(self, run: RunDirectory, step: int) -> None:
        if self.processes.is_main:
            run.truncate_after(step)

    def _save(self, run: RunDirectory, step: int) -> None:
        rng = self.processes.gather(rng_state())
        if not self.processes.is_main:
            return
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
        save_checkpoint(run, step, state, keep=self.config.checkpoint.keep)

    def _save_final(self, run: RunDirectory) -> None:
        """The adapter of the last step, or of the best evaluation where early stopping is on."""
        if not self.processes.is_main:
            return
        if self.stopping.active:
            self.stopping.keep_best(run)
            return
        with self._averaged(), replace_folder(run.final) as partial:
            self.policy.save_adapter(partial)

    def _last_checkpoint(self, run: RunDirectory) -> str:
        checkpoint = latest_checkpoint(run)
        name = checkpoint.name if checkpoint else "nothing"
        return f"{name} is kept in {run.path}: mend the cause, then go on with --resume"

    def _evaluate_base(self, run: RunDirectory, base: str | Path | None) -> None:
        if base is None:
            self._evaluate(run, 0)
        elif self.processes.is_main:
            adopt_base_evaluation(run, RunDirectory.open(base))
            self._keep_if_best(run)

    def _evaluate(self, run: RunDirectory, step: int) -> None:
        with self._averaged():
            for evaluator in (self.evaluator, *self.other_evaluators):
                measured = evaluator.measure()
                if self.processes.is_main:
                    run.append_evaluation(evaluator.record(run, step, measured))
            if self.processes.is_main:
                self._keep_if_best(run)

    def _keep_if_best(self, run: RunDirectory) -> None:
        if self.stopping.improved(run):
            with replace_folder(self.stopping.folder(run)) as partial:
                self.policy.save_adapter(partial)

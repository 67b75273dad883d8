"""ADRPO for flow-matching text-to-image models: Algorithm 1, one readable loop."""

import math
import time
from pathlib import Path
from typing import Any

import torch

from adrpo.config import FlowConfig, TrainingConfig, config_to_yaml
from adrpo.data.prompts import load_prompts
from adrpo.errors import AdrpoError
from adrpo.flow.anchors import build_anchor
from adrpo.flow.evaluator import Evaluator
from adrpo.flow.loading import load_policy
from adrpo.flow.progress import TrainingProgress
from adrpo.flow.resuming import check_same_run
from adrpo.flow.rollout import Samples, Weights, initial_noise, prompt_order, weigh
from adrpo.flow.stopwatch import Stopwatch
from adrpo.flow.update import Losses, accumulate_gradient, sample_path
from adrpo.rewards.base import Reward, RewardResult, RewardTerm, score
from adrpo.rewards.loading import build_reward
from adrpo.runs.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint
from adrpo.runs.directory import RunDirectory
from adrpo.runs.seeding import generator, restore_rng_state, rng_state, seed_everything


class FlowTrainer:
    """Fine-tunes a flow-matching model online: sample, score, weigh, update.

    Each step samples ``samples_per_prompt`` images for each of ``prompts_per_step`` prompts from
    the current policy, scores them, takes A = R - mean of the prompt's rewards, clips it, and
    makes one optimizer step on the mean over the samples of

        A |v - u_t|^2 + (beta_0 - A) |v - v_ref|^2          (eq. 6, Algorithm 1)

    at ``timesteps_per_sample`` t ~ U(0, 1) for each sample (arXiv 2510.18053). v_ref is the same
    model with the adapter off, or with a moving average of the adapter (``algorithm.anchor``).

    Args:
        config: the resolved configuration.
        reward: a callable that replaces the configuration's reward.
    """

    def __init__(self, config: FlowConfig, *, reward: Reward | None = None) -> None:
        self.config = config
        self._started = time.monotonic()
        training = config.training
        self.prompts = load_prompts(
            config.prompts.train, size=config.prompts.train_size, seed=training.seed
        )
        self.policy = load_policy(config.model)
        self.device = self.policy.device
        self.reward = (
            build_reward(config.reward, self.device)
            if reward is None
            else [RewardTerm(getattr(reward, "__name__", "reward"), 1.0, reward)]
        )
        torch.manual_seed(training.seed)
        self.policy.add_adapter(config.adapter)
        self.anchor = build_anchor(config.algorithm, self.policy)
        self.conditioning = self.policy.encode([prompt.text for prompt in self.prompts])
        self.optimizer = torch.optim.AdamW(
            self.policy.adapter_parameters(),
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
        )
        self.schedule = _schedule(self.optimizer, training)
        held_out = load_prompts(
            config.prompts.held_out,
            size=config.prompts.held_out_size,
            seed=config.evaluation.seed,
        )
        self.evaluator = Evaluator(config.evaluation, self.policy, self.reward, held_out)

    def train(self, output_dir: str | Path, *, resume: bool = False, progress: bool = True) -> Path:
        """Run the configured steps into ``output_dir`` and return its path.

        With ``resume`` the run that lies there goes on from its last checkpoint, and ends with
        the same metrics and the same adapter as if it had never stopped.

        Raises AdrpoError for a folder that holds another run, a corrupt checkpoint, a reward
        that scores no sample of a step, or a loss that is not finite.
        """
        run, done = self._open(Path(output_dir), resume)
        steps = self.config.training.steps
        with TrainingProgress(steps, completed=done, enabled=progress) as bar:
            if done < 0:
                # For rewards that draw from a global generator; our own draws are named streams.
                seed_everything(self.config.training.seed)
                bar.say("evaluate")
                self._evaluate(run, 0)
                self._save(run, 0)
                done = 0
            for step in range(done + 1, steps + 1):
                bar.say("train   ")
                row = self.step(step, self._last_checkpoint(run))
                run.append_metrics(row)
                bar.update(row)
                if step % self.config.evaluation.every == 0 or step == steps:
                    bar.say("evaluate")
                    self._evaluate(run, step)
                if step % self.config.checkpoint.every == 0 or step == steps:
                    self._save(run, step)
        self.policy.save_adapter(run.final)
        return run.path

    def step(self, step: int, fallback: str = "") -> dict[str, Any]:
        """One step of Algorithm 1; returns its row of metrics.jsonl.

        ``fallback`` tells, in the error of a step that can't be made, what is left to resume.
        """
        config, training = self.config, self.config.training
        stopwatch = Stopwatch(self.device)
        calls = self.policy.model_calls
        with stopwatch.part("sampling"):
            samples = self._sample(step, fallback)
        with stopwatch.part("scoring"):
            result = self._score(samples)
        if not result.total.isfinite().any():
            raise AdrpoError(
                f"step {step}: the reward scored none of {len(result.total)} samples"
                f"{f' ({result.first_error})' if result.first_error else ''}; {fallback}"
            )
        weights = weigh(
            result,
            samples.group_ids,
            beta_0=config.algorithm.beta_0,
            clip=config.algorithm.advantage_clip,
            scale=config.algorithm.advantage_scale,
        )
        points = training.timesteps_per_sample
        path = sample_path(samples.x_1, generator(training.seed, "path", step), timesteps=points)
        losses = accumulate_gradient(
            self.policy,
            self.anchor,
            path,
            self.conditioning.select(samples.prompt_index.repeat_interleave(points)),
            advantages=weights.advantages.repeat_interleave(points).to(self.device),
            beta=weights.beta.repeat_interleave(points).to(self.device),
            micro_batch=training.micro_batch_size,
            guidance_scale=training.guidance_scale,
            stopwatch=stopwatch,
        )
        with stopwatch.part("policy"):
            grad_norm = self._apply_gradient(step, losses, fallback)
        return self._row(step, result, weights, losses, grad_norm, calls, stopwatch)

    def _sample(self, step: int, fallback: str) -> Samples:
        """x_1 from the current policy, in micro-batches, and its images."""
        training = self.config.training
        order = prompt_order(
            step,
            prompts=len(self.prompts),
            per_step=training.prompts_per_step,
            seed=training.seed,
        )
        prompt_index = torch.tensor(order).repeat_interleave(training.samples_per_prompt)
        groups = torch.arange(len(order)).repeat_interleave(training.samples_per_prompt)
        x_0 = initial_noise(len(groups), self.policy.latent_shape, training.seed, "rollout", step)
        parts, images = [], []
        for rows in torch.arange(len(groups)).split(training.micro_batch_size):
            conditioning = self.conditioning.select(prompt_index[rows])
            x_1 = self.policy.sample(x_0[rows], conditioning, self.config.sampling)
            if not x_1.isfinite().all():
                raise AdrpoError(
                    f"step {step}: expected finite samples; the policy drew NaN or infinity; "
                    f"lower training.learning_rate; {fallback}"
                )
            images += self.policy.decode(x_1)
            parts.append(x_1)
        # A clone made outside inference mode, since autograd refuses inference tensors.
        x_1 = torch.cat(parts).clone()
        return Samples(prompt_index=prompt_index, group_ids=groups, x_1=x_1, images=images)

    def _score(self, samples: Samples) -> RewardResult:
        chosen = [self.prompts[i] for i in samples.prompt_index]
        return score(
            self.reward,
            [prompt.text for prompt in chosen],
            samples.images,
            category=[prompt.category for prompt in chosen],
        )

    def _apply_gradient(self, step: int, losses: Losses, fallback: str) -> float:
        """Clip, step, and return the norm before clipping."""
        norm = torch.nn.utils.clip_grad_norm_(
            self.policy.adapter_parameters(), self.config.training.max_grad_norm
        )
        if not (math.isfinite(losses.loss) and norm.isfinite()):
            raise AdrpoError(
                f"step {step}: expected a finite loss and gradient; received loss {losses.loss} "
                f"and gradient norm {norm.item()}; lower training.learning_rate; {fallback}"
            )
        self.optimizer.step()
        self.anchor.update()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def _row(
        self,
        step: int,
        result: RewardResult,
        weights: Weights,
        losses: Losses,
        grad_norm: float,
        calls_before: int,
        stopwatch: Stopwatch,
    ) -> dict[str, Any]:
        scored = result.total.isfinite()
        timings = stopwatch.row()
        low, high = self.config.algorithm.advantage_clip
        raw = weights.raw_advantages[scored]
        outside = (raw < low) | (raw > high)
        return {
            "step": step,
            "wall_seconds": time.monotonic() - self._started,
            "reward_mean": float(result.total[scored].mean()),
            "reward_std": float(result.total[scored].std(correction=0)),
            **{
                f"reward_{name}_mean": float(values[values.isfinite()].mean())
                for name, values in result.by_term.items()
            },
            "advantage_std": float(raw.std(correction=0)),
            "advantage_clipped_fraction": float(outside.float().mean()),
            "beta_mean": float(weights.beta.mean()),
            "beta_min": float(weights.beta.min()),
            "beta_max": float(weights.beta.max()),
            "divergence": losses.divergence,
            "loss": losses.loss,
            "grad_norm": grad_norm,
            "learning_rate": self.schedule.get_last_lr()[0],
            "samples": len(scored),
            "samples_excluded": int((~scored).sum()),
            "model_calls": self.policy.model_calls - calls_before,
            "reference_rows": losses.reference_rows,
            "samples_per_second": len(scored) / timings["seconds_step"],
            **timings,
        }

    def _open(self, output_dir: Path, resume: bool) -> tuple[RunDirectory, int]:
        """The run directory and the steps done in it (-1: not even the base is evaluated)."""
        self._started = time.monotonic()
        if not resume:
            return RunDirectory.create(output_dir, config_to_yaml(self.config)), -1
        run = RunDirectory.open(output_dir)
        check_same_run(run, self.config)
        checkpoint = latest_checkpoint(run)
        if checkpoint is None:
            run.truncate_after(-1)
            return run, -1
        state = load_checkpoint(checkpoint)
        self.policy.load_adapter_state(state["adapter"])
        self.anchor.load_state(state["anchor"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        restore_rng_state(state["rng"])
        run.truncate_after(state["step"])
        self._started -= state["wall_seconds"]
        return run, state["step"]

    def _save(self, run: RunDirectory, step: int) -> None:
        state = {
            "step": step,
            "wall_seconds": time.monotonic() - self._started,
            "adapter": self.policy.adapter_state(),
            "anchor": self.anchor.state(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "rng": rng_state(),
        }
        save_checkpoint(run, step, state, keep=self.config.checkpoint.keep)

    def _last_checkpoint(self, run: RunDirectory) -> str:
        checkpoint = latest_checkpoint(run)
        name = checkpoint.name if checkpoint else "nothing"
        return f"{name} is kept in {run.path}: mend the cause, then go on with --resume"

    def _evaluate(self, run: RunDirectory, step: int) -> None:
        run.append_evaluation(self.evaluator.evaluate(run, step))


def _schedule(
    optimizer: torch.optim.Optimizer, training: TrainingConfig
) -> torch.optim.lr_scheduler.LambdaLR:
    """diffusers' schedule; its warm-up begins at a rate of 0."""
    from diffusers.optimization import get_scheduler

    name = training.learning_rate_schedule
    return get_scheduler(
        "constant_with_warmup" if name == "constant" else name,
        optimizer,
        num_warmup_steps=training.warmup_steps,
        num_training_steps=training.steps,
    )

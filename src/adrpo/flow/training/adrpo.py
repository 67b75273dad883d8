"""ADRPO and its relatives for flow-matching text-to-image models: one readable step."""

from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from adrpo.config import FlowConfig
from adrpo.config.algorithm_keys import Weighed
from adrpo.core.placement import sent
from adrpo.flow.methods import build_method
from adrpo.flow.path.path_samples import sample_path
from adrpo.flow.training.anchors import build_models
from adrpo.flow.training.online import WEIGHT_COLUMNS, OnlineLoop, weight_columns
from adrpo.flow.training.stopwatch import Stopwatch
from adrpo.flow.training.update import Batch, accumulate_gradient
from adrpo.rewards.base import Reward
from adrpo.runs.seeding import generator


class FlowTrainer(OnlineLoop):
    """Fine-tunes a flow-matching model online: sample, score, weigh, update.

    Each step samples ``samples_per_prompt`` images for each of ``prompts_per_step`` prompts from
    the current policy, scores them, takes A = R - mean of the prompt's rewards, clips it, and
    makes one optimizer step on the mean over the samples of

        A |v - u_t|^2 + (beta_0 - A) |v - v_ref|^2          (eq. 6, Algorithm 1)

    at ``timesteps_per_sample`` times for each sample (arXiv 2510.18053). v_ref is the same model
    with the adapter off, or with a moving average of the adapter (``algorithm.anchor``). Other
    methods of the same form weigh the two terms otherwise (``algorithm.method``), and samples may
    be those of a policy that lags behind (``algorithm.sampling_policy``).

    Args:
        config: the resolved configuration.
        reward: a callable that replaces the configuration's reward.
    """

    shardable = True
    learned = (*WEIGHT_COLUMNS, "divergence", "loss", "grad_norm", "reference_rows")

    def __init__(self, config: FlowConfig, *, reward: Reward | None = None) -> None:
        self.method = build_method(config.algorithm)
        super().__init__(config, reward=reward)
        self.models = build_models(config.algorithm, self.policy)
        assert isinstance(config.algorithm, Weighed)  # or build_method would have refused it
        self.shared_points = config.algorithm.shared_points
        # None: that of training, as in all methods but CRD.
        self.anchor_guidance = getattr(config.algorithm, "anchor_guidance_scale", None)

    def step(self, step: int) -> dict[str, Any]:
        """One step of Algorithm 1; see ``TrainingLoop.step``."""
        training = self.config.training
        stopwatch = Stopwatch(self.device)
        calls = self.policy.model_calls
        prompt_index, groups = self.chosen_prompts(step)
        own = self.share.of
        with stopwatch.part("sampling"):
            x_1, images = self._sample(step, own(prompt_index))
            finite = self.finite_samples(x_1)
            x_1[~finite] = 0  # a number, which no row is trained on
        with stopwatch.part("scoring"):
            result = self.scored(images, prompt_index)
            opinions = self.second_opinions(images, prompt_index)
        if not result.total.isfinite().any():
            return {"step": step, **self.unscored(result, calls, stopwatch)}
        weights = self.method.weigh(self.normalizer.of(result, groups), groups, *opinions)
        points = training.timesteps_per_sample
        path = sample_path(
            x_1,
            generator(training.seed, "path", step),
            timesteps=points,
            sampling=training.timestep_sampling,
            share=self.share,
            group_size=training.samples_per_prompt if self.shared_points else 1,
        )
        # The sample of each of this process's rows.
        sample = own(torch.arange(len(groups))).repeat_interleave(points)
        batch = Batch(
            path=path,
            conditioning=self.prompts.conditioning.select(prompt_index[sample]),
            weights=weights.select(sample).to(self.device).only(finite.repeat_interleave(points)),
            group=sent(groups[sample] * points + torch.arange(len(sample)) % points, self.device),
        )
        losses = accumulate_gradient(
            self._velocity,
            self.models.anchor,
            self.method,
            batch,
            micro_batch=training.micro_batch_size,
            stopwatch=stopwatch,
            old=self.models.old,
            reference=partial(self._velocity, guidance=self.anchor_guidance),
            processes=self.processes,
        )
        with stopwatch.part("policy"):
            grad_norm = self.apply_gradient(losses.loss)
            self.models.update(losses.divergence)
            self.method.coefficient.observe(losses.divergence)
            self.follow()
        return {
            "step": step,
            **self.reward_columns(result, weights.advantages),
            **weight_columns(weights, result.total.isfinite()),
            "divergence": losses.divergence,
            "loss": losses.loss,
            "grad_norm": grad_norm,
            "reference_rows": losses.reference_rows,
            **self.cost_columns(len(result.total), calls, stopwatch),
        }

    def _sample(self, step: int, prompt_index: Tensor) -> tuple[Tensor, list[Image.Image | None]]:
        """x_1 from the sampling policy for each of ``prompt_index``, in micro-batches, and the
        images."""
        x_0 = self.rollout_noise(step)
        parts, images = [], []
        for rows in torch.arange(len(x_0)).split(self.config.training.micro_batch_size):
            conditioning = self.prompts.conditioning.select(prompt_index[rows])
            with self.models.sampling():
                x_1 = self.policy.sample(x_0[rows], conditioning, self.config.sampling)
            images += self.policy.decode(x_1)
            parts.append(x_1)
        return torch.cat(parts), images

    def _velocity(self, rows: Batch, guidance: float | None = None) -> Tensor:
        path = rows.path
        if guidance is None:
            guidance = self.config.training.guidance_scale
        return self.policy.velocity(path.x_t, path.t, rows.conditioning, guidance_scale=guidance)

    def trainer_state(self) -> dict[str, Any]:
        own = {**self.models.state(), "method": self.method.coefficient.state()}
        return own | super().trainer_state()

    def load_trainer_state(self, state: dict[str, Any]) -> None:
        self.models.load_state(state)
        self.method.coefficient.load_state(state["method"])
        super().load_trainer_state(state)

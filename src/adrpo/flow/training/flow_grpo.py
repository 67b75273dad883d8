"""Flow-GRPO: the clipped policy gradient on the Gaussian steps of a stochastic sampler."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from adrpo.coefficient import Coefficient
from adrpo.config import FlowConfig, FlowGrpoSection
from adrpo.core import velocity_divergence
from adrpo.core.placement import sent
from adrpo.core.preferences import clipped_surrogate
from adrpo.core.schedules import StepSamples
from adrpo.flow.methods import Weights
from adrpo.flow.methods.base import clipped_advantages
from adrpo.flow.path.sde import gaussian_kl, gaussian_log_prob, simulate, step_distribution
from adrpo.flow.training.anchors import build_anchor
from adrpo.flow.training.online import WEIGHT_COLUMNS, weight_columns
from adrpo.flow.training.section import section_of
from adrpo.flow.training.stopwatch import Stopwatch
from adrpo.flow.training.trajectories import TrajectoryLoop
from adrpo.rewards.base import Reward


@dataclass(frozen=True, kw_only=True)
class NoisySteps:
    """The noisy steps of all samples, one row each, sample after sample.

    ``x``, ``x_next`` [rows, *latent_shape]; ``t``, ``t_next``, ``log_prob`` [rows]; ``prompt``
    [rows] points into the training prompts.
    """

    x: Tensor
    x_next: Tensor
    t: Tensor
    t_next: Tensor
    log_prob: Tensor
    prompt: Tensor


class FlowGRPOTrainer(TrajectoryLoop):
    """Flow-GRPO (Liu et al., arXiv 2505.05470): of each step the samples are drawn by an SDE, and

        L = -min(r A, clip(r, 1 - epsilon, 1 + epsilon) A) + beta KL(p_theta || p_ref)

    is minimised over its noisy steps, in ``updates_per_step`` optimizer steps over the parts of
    the batch. r is the ratio of the step's Gaussian densities, log p a mean over elements. beta is
    the same for all samples, or follows a schedule that reads A (``algorithm.coefficient``); p_ref
    is the model of ``algorithm.anchor``.
    """

    learned = (
        *WEIGHT_COLUMNS, "divergence", "kl", "ratio_clipped_fraction", "loss", "grad_norm",
    )  # fmt: skip

    def __init__(self, config: FlowConfig, *, reward: Reward | None = None) -> None:
        self.settings = section_of(config, FlowGrpoSection)
        super().__init__(config, reward=reward)
        self.anchor = build_anchor(config.algorithm, self.policy)
        self.coefficient = Coefficient(self.settings.coefficient, self.settings.beta_0)

    def step(self, step: int) -> dict[str, Any]:
        """One rollout and its updates; see ``TrainingLoop.step``."""
        stopwatch = Stopwatch(self.device)
        calls = self.policy.model_calls
        prompt_index, groups = self.chosen_prompts(step)
        with stopwatch.part("sampling"):
            steps, images = self._sample(step, self.share.of(prompt_index))
            finite = self.finite_samples(steps.x_next.view(len(images), -1)).cpu()
        with stopwatch.part("scoring"):
            result = self.scored(images, prompt_index)
            opinions = self.second_opinions(images, prompt_index)
        if not result.total.isfinite().any():
            return {"step": step, **self.unscored(result, calls, stopwatch)}
        weights = self._weigh(self.normalizer.of(result, groups), groups, *opinions)
        noisy = len(self.times) - 2
        own = weights.select(self.share.of(torch.arange(len(groups))).repeat_interleave(noisy))
        own = own.to(self.device)
        sums = torch.zeros(4)
        norms = []
        for part, total in self.update_parts(step, self.settings.updates_per_step):
            held = part[finite[part]]
            rows = (held[:, None] * noisy + torch.arange(noisy)).flatten()
            sums += self._update(steps, own, rows, total * noisy, stopwatch)
            with stopwatch.part("policy"):
                norms.append(self.apply_gradient(float(sums[0])))
        self.follow()
        loss, kl, distance, clipped = (sums / (len(groups) * noisy)).tolist()
        self.anchor.update(kl)
        return {
            "step": step,
            **self.reward_columns(result, weights.advantages),
            **weight_columns(weights, result.total.isfinite()),
            "divergence": distance,
            "kl": kl,
            "ratio_clipped_fraction": clipped,
            "loss": loss,
            "grad_norm": sum(norms) / len(norms),
            **self.cost_columns(len(groups), calls, stopwatch),
        }

    def _weigh(
        self,
        rewards: Tensor,
        groups: Tensor,
        scores: Mapping[str, Tensor],
        novelty: Tensor | None = None,
    ) -> Weights:
        """weight A, clipped, and beta of each sample of the step."""
        raw, advantages, clipped = clipped_advantages(rewards, groups, self.settings, novelty)
        samples = StepSamples(advantages=advantages, rewards=rewards, scores=scores)
        beta = self.coefficient.of(samples)
        taken = torch.ones_like(clipped)
        return Weights(advantages=raw, clipped=clipped, weight=advantages, beta=beta, taken=taken)

    def _sample(self, step: int, prompt_index: Tensor) -> tuple[NoisySteps, list[Any]]:
        """The noisy steps of this process's trajectories, and the images they end in."""
        x_0 = self.rollout_noise(step)
        draws = self.fresh_noise(len(self.times) - 2, step, "sde")
        parts, images = [], []
        for rows in torch.arange(len(prompt_index)).split(self.rows_at_once):
            part = simulate(
                partial(self.velocity, prompt_index[rows]),
                sent(x_0[rows], self.device),
                self.times,
                noise_level=self.settings.noise_level,
                noise=sent(draws[:, rows], self.device).__getitem__,
            )
            images += self.policy.decode(part.points[-1])
            parts.append(part)
        points = torch.cat([part.points for part in parts], dim=1).transpose(0, 1)
        log_probs = torch.cat([part.log_probs for part in parts], dim=1).T
        count, noisy = log_probs.shape
        times = sent(self.times, self.device).expand(count, -1)
        return (
            NoisySteps(
                x=points[:, :noisy].flatten(0, 1),
                x_next=points[:, 1 : noisy + 1].flatten(0, 1),
                t=times[:, :noisy].flatten(),
                t_next=times[:, 1 : noisy + 1].flatten(),
                log_prob=log_probs.flatten(),
                prompt=prompt_index.repeat_interleave(noisy),
            ),
            images,
        )

    def _update(
        self,
        steps: NoisySteps,
        weights: Weights,
        rows: Tensor,
        total: int,
        stopwatch: Stopwatch,
    ) -> Tensor:
        """Backpropagate the mean loss over ``total`` rows, of which this process has ``rows``; the
        sums of loss, KL, |v - v_ref|^2 and clipping over all of them."""
        sums = torch.zeros(4, device=self.device)
        # An empty tensor splits into one empty part, which the model can't take.
        for on_host in rows.split(self.rows_at_once) if len(rows) else ():
            part = sent(on_host, self.device)
            asked = (steps.prompt[on_host], steps.x[part], steps.t[part])
            with stopwatch.part("reference"), torch.no_grad(), self.anchor.active():
                v_ref = self.velocity(*asked)
            with stopwatch.part("policy"):
                v = self.velocity(*asked)
                mean, std = self._step_distribution(steps, part, v)
                mean_ref, _ = self._step_distribution(steps, part, v_ref)
                log_ratio = gaussian_log_prob(steps.x_next[part], mean, std) - steps.log_prob[part]
                surrogate = clipped_surrogate(
                    log_ratio, weights.weight[part], clip_range=self.settings.clip_range
                )
                kl = gaussian_kl(mean, mean_ref, std)
                loss = surrogate + weights.beta[part] * kl
                (loss.sum() / total).backward()
            outside = (log_ratio.detach().exp() - 1).abs() > self.settings.clip_range
            distance = velocity_divergence(v.detach(), v_ref)
            columns = (loss.detach(), kl.detach(), distance, outside.float())
            sums += torch.stack([column.sum() for column in columns])
        return torch.stack(self.processes.gather(sums.cpu())).sum(0)

    def trainer_state(self) -> dict[str, Any]:
        own = {"anchor": self.anchor.state(), "coefficient": self.coefficient.state()}
        return own | super().trainer_state()

    def load_trainer_state(self, state: dict[str, Any]) -> None:
        # A checkpoint of before has neither: its anchor was the base, and nothing moved.
        self.anchor.load_state(state.get("anchor", {}))
        self.coefficient.load_state(state.get("coefficient", {}))
        super().load_trainer_state(state)

    def _step_distribution(
        self, steps: NoisySteps, rows: Tensor, v: Tensor
    ) -> tuple[Tensor, Tensor]:
        return step_distribution(
            steps.x[rows],
            v,
            steps.t[rows],
            steps.t_next[rows],
            noise_level=self.settings.noise_level,
            first=float(self.times[1]),
        )

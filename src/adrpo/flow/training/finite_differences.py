"""Finite Difference Flow Optimization: pairs from one start noise, a trajectory as one action."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from adrpo.coefficient import Coefficient
from adrpo.config import FdfoSection, FlowConfig
from adrpo.core import group_advantages, velocity_divergence
from adrpo.core.finite_differences import (
    difference_ratio,
    difference_surrogate,
    end_directions,
    half_differences,
)
from adrpo.core.placement import sent
from adrpo.core.schedules import StepSamples
from adrpo.flow.path.churn import churned_euler
from adrpo.flow.path.draws import initial_noise
from adrpo.flow.training.anchors import build_anchor
from adrpo.flow.training.section import section_of
from adrpo.flow.training.stopwatch import Stopwatch
from adrpo.flow.training.trajectories import TrajectoryLoop
from adrpo.rewards.base import Reward
from adrpo.runs.seeding import generator


@dataclass(frozen=True, kw_only=True)
class Points:
    """The points of all trajectories, one row each, sample after sample, as the policy found them.

    ``x``, ``v_old`` [rows, *latent_shape]; ``t`` [rows]; ``sample`` [rows], and of the samples
    ``prompt`` [samples], which points into the training prompts, and ``direction`` g [samples,
    *latent_shape].
    """

    x: Tensor
    v_old: Tensor
    t: Tensor
    sample: Tensor
    prompt: Tensor
    direction: Tensor


class FiniteDifferenceTrainer(TrajectoryLoop):
    """FDFO (McAllister et al., arXiv 2603.12893): of each step the samples are drawn in pairs, from
    one start noise by a sampler with a little fresh noise (``flow.path.churn``), and

        L = -dR q + |dR| (q - 1)^2 / (2 epsilon) + beta |v - v_ref|^2
        q = exp(|g|^2 - |v - (v_old + g)|^2)

    is minimised at the points of their trajectories, in ``updates_per_step`` optimizer steps over
    the parts of the batch. dR and g are those of the pair's ends (``core.finite_differences``),
    v_old is the velocity that the rollout found, and beta is 0 in the paper: a penalty, whose
    schedule reads dR in the place of A (``algorithm.coefficient``), is ours.

    A pair without two scores has dR = 0. Points whose dR and beta are 0 count in the mean and skip
    the network.
    """

    learned = (
        "informative_fraction", "beta_mean", "beta_min", "beta_max", "divergence",
        "ratio_clipped_fraction", "loss", "grad_norm", "reference_rows",
    )  # fmt: skip

    unit = 2
    """A pair: each process has both ends."""

    def __init__(self, config: FlowConfig, *, reward: Reward | None = None) -> None:
        self.settings = section_of(config, FdfoSection)
        super().__init__(config, reward=reward)
        self.steps = config.sampling.steps
        self.anchor = build_anchor(config.algorithm, self.policy)
        self.coefficient = Coefficient(self.settings.coefficient, self.settings.beta_0)

    def rollout_noise(self, step: int) -> Tensor:
        """x_0 of this process's samples of a step, the same for both of a pair."""
        seed, shape = self.config.training.seed, self.shape_of(step)
        noise = initial_noise(self.units.total, shape, seed, "rollout", step)
        return self.units.of(noise).repeat_interleave(2, 0)

    def step(self, step: int) -> dict[str, Any]:
        """One rollout and its updates; see ``TrainingLoop.step``."""
        stopwatch = Stopwatch(self.device)
        calls = self.policy.model_calls
        prompt_index, groups = self.chosen_prompts(step)
        with stopwatch.part("sampling"):
            points, images, x_1 = self._sample(step, self.share.of(prompt_index))
            # An end that is not finite has no direction to the other one either.
            finite = self.finite_samples(x_1).cpu().view(-1, 2).all(1)
        with stopwatch.part("scoring"):
            result = self.scored(images, prompt_index)
            scores, _ = self.second_opinions(images, prompt_index)
        scored = result.total.isfinite().view(-1, 2).all(1)
        if not scored.any():
            return {"step": step, **self.unscored(result, calls, stopwatch)}
        rewards = self.normalizer.of(result, groups)
        raw = group_advantages(rewards, groups, scale=self.settings.advantage_scale)
        advantages = half_differences(raw) * scored.repeat_interleave(2)
        beta = self.coefficient.of(
            StepSamples(advantages=advantages, rewards=rewards, scores=scores)
        )
        own = tuple(self.share.of(values) for values in (advantages, beta))
        chosen = self._chosen_points(step)
        sums = torch.zeros(4)
        norms = []
        for part, total in self.update_parts(step, self.settings.updates_per_step):
            pairs = part[finite[part]]
            samples = 2 * pairs[:, None] + torch.arange(2)
            rows = samples[:, :, None] * self.steps + chosen[pairs][:, None, :]
            rows = rows.flatten()
            sums += self._update(points, own, rows, 2 * total * chosen.shape[1], stopwatch)
            with stopwatch.part("policy"):
                norms.append(self.apply_gradient(float(sums[0])))
        self.follow()
        loss, distance, reference_rows, beyond = sums.tolist()
        divergence = distance / max(reference_rows, 1)
        self.anchor.update(divergence)
        first, second = rewards.view(-1, 2)[scored].unbind(1)
        rows_of_step = len(groups) * chosen.shape[1]
        return {
            "step": step,
            **self.reward_columns(result, raw),
            "informative_fraction": float((first != second).float().mean()),
            "beta_mean": float(beta.mean()),
            "beta_min": float(beta.min()),
            "beta_max": float(beta.max()),
            "divergence": divergence,
            "ratio_clipped_fraction": beyond / rows_of_step,
            "loss": loss / rows_of_step,
            "grad_norm": sum(norms) / len(norms),
            "reference_rows": int(reference_rows),
            **self.cost_columns(len(groups), calls, stopwatch),
        }

    def _chosen_points(self, step: int) -> Tensor:
        """The points that are trained on, [pairs of this process, points], the same for both ends
        of a pair."""
        count = self.settings.points or self.steps
        draws = generator(self.config.training.seed, "points", step)
        order = torch.rand((self.units.total, self.steps), generator=draws).argsort(1)
        return self.units.of(order)[:, :count]

    def _sample(self, step: int, prompt_index: Tensor) -> tuple[Points, list[Any], Tensor]:
        """The points of this process's trajectories, the images they end in, and x_1."""
        x_0 = self.rollout_noise(step)
        draws = self.fresh_noise(self.steps, step, "churn")
        parts, images = [], []
        for rows in torch.arange(len(prompt_index)).split(self.rows_at_once):
            part = churned_euler(
                partial(self.velocity, prompt_index[rows]),
                sent(x_0[rows], self.device),
                self.times,
                churn=self.settings.churn,
                noise=sent(draws[:, rows], self.device).__getitem__,
            )
            images += self.policy.decode(part.x_1)
            parts.append(part)
        x_1 = torch.cat([part.x_1 for part in parts])
        x, v_old = (
            torch.cat(found, dim=1).transpose(0, 1).flatten(0, 1)
            for found in ([p.points for p in parts], [p.velocities for p in parts])
        )
        points = Points(
            x=x,
            v_old=v_old,
            t=sent(self.times[:-1], self.device).repeat(len(x_1)),
            sample=torch.arange(len(x_1)).repeat_interleave(self.steps),
            prompt=prompt_index,
            direction=end_directions(x_1),
        )
        return points, images, x_1

    def _update(
        self,
        points: Points,
        weights: tuple[Tensor, ...],
        rows: Tensor,
        total: int,
        stopwatch: Stopwatch,
    ) -> Tensor:
        """Backpropagate the mean loss over ``total`` points, of which this process has ``rows``;
        the sums of loss and |v - v_ref|^2, the number of the latter, and the number of ratios
        beyond 1 +- epsilon, over all processes. ``weights`` are dR and beta of the samples."""
        # What is chosen by its value is chosen on the host, which else waits for the device.
        advantages, beta = weights
        sample = points.sample[rows]
        rows = rows[(advantages[sample] != 0) | (beta[sample] != 0)]
        sums, reference_rows = torch.zeros(3, device=self.device), 0
        # An empty tensor splits into one empty part, which the model can't take.
        for part in rows.split(self.rows_at_once) if len(rows) else ():
            sample = points.sample[part]
            held = (beta[sample] != 0).nonzero().flatten()
            v_ref = self._reference(points, part[held], stopwatch)
            with stopwatch.part("policy"):
                v = self._at(points, part)
                there, direction = sent(part, v.device), points.direction[sent(sample, v.device)]
                advantage, coefficient = (
                    sent(values, v.device) for values in (advantages[sample], beta[sample][held])
                )
                log_ratio = difference_ratio(v, points.v_old[there], direction)
                loss = difference_surrogate(
                    log_ratio, advantage, clip_range=self.settings.clip_range
                ).sum()
                distance = velocity_divergence(v[sent(held, v.device)], v_ref)
                loss = loss + (coefficient * distance).sum()
                (loss / total).backward()
            beyond = log_ratio.detach().expm1().abs() > self.settings.clip_range
            sums += torch.stack([loss.detach(), distance.detach().sum(), beyond.sum()])
            reference_rows += len(held)
        loss, distance, beyond = sums.cpu()
        found = torch.stack([loss, distance, torch.tensor(float(reference_rows)), beyond])
        return torch.stack(self.processes.gather(found)).sum(0)

    @torch.no_grad()
    def _reference(self, points: Points, rows: Tensor, stopwatch: Stopwatch) -> Tensor:
        """v_ref at the points ``rows``, of which there may be none."""
        if not len(rows):
            return points.v_old[:0]
        with stopwatch.part("reference"), self.anchor.active():
            return self._at(points, rows)

    def _at(self, points: Points, rows: Tensor) -> Tensor:
        """v at the points ``rows``."""
        there = sent(rows, points.x.device)
        return self.velocity(points.prompt[points.sample[rows]], points.x[there], points.t[there])

    def trainer_state(self) -> dict[str, Any]:
        own = {"anchor": self.anchor.state(), "coefficient": self.coefficient.state()}
        return own | super().trainer_state()

    def load_trainer_state(self, state: dict[str, Any]) -> None:
        self.anchor.load_state(state["anchor"])
        self.coefficient.load_state(state["coefficient"])
        super().load_trainer_state(state)

"""What the loss of each method asks of the network, in NumPy's float64 and by hand.

From a step's own samples, rewards and points follows dL/dv of every row. Nothing of the methods'
code is used but the names of their settings.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wiring.image_steps import Step, WatchedTrainer

Array = Any


def advantages(rewards: Array, groups: Array, scale: str) -> Array:
    """A = R - V, in the standard deviation that ``scale`` names."""
    means = np.array([rewards[groups == group].mean() for group in groups])
    above = rewards - means
    if scale == "none":
        return above
    if scale == "group":
        own = [np.sqrt((above[groups == group] ** 2).mean()) for group in groups]
        return above / np.array(own)
    return above / (np.sqrt((above**2).mean()) if scale == "batch" else rewards.std())


def shaped(section: Any, rewards: Array, groups: Array) -> Array:
    """A in the section's scale and shape, sign(A) |A|^(1 + gamma)."""
    raw = advantages(rewards, groups, section.advantage_scale)
    return np.sign(raw) * np.abs(raw) ** (1 + section.advantage_gamma)


def weights(section: Any, rewards: Array, groups: Array, beta_0: float) -> tuple[Array, Array]:
    """Weight and beta of every sample (docs/method/equations.md)."""
    method = section.method
    ones = np.ones_like(rewards)
    if method == "raft":
        weight = np.zeros_like(rewards)
        for group in np.unique(groups):
            own = np.flatnonzero(groups == group)
            best = own[np.argsort(-rewards[own], kind="stable")][: section.best]
            weight[best] = len(own) / section.best
        return weight, 0 * ones
    raw = shaped(section, rewards, groups)
    if method == "orw_cfm_w2":
        weight = np.exp(section.temperature * raw)
        if section.weight_mean == "one":
            weight /= np.array([weight[groups == group].mean() for group in groups])
        return weight, section.beta_0 * ones
    if method == "diffusion_nft":
        bound = section.advantage_clip
        return raw.clip(-bound, bound) / bound, section.beta_0 * ones
    clipped = raw.clip(*section.advantage_clip)
    if method == "awm":
        return clipped / max(map(abs, section.advantage_clip)), section.beta_0 * ones
    if method == "adrpo":
        if section.only_positive:
            clipped = clipped.clip(0)
        return clipped, beta_0 - clipped
    assert method == "fixed_beta"
    return clipped, beta_0 * ones


def controlled(section: Any, beta_0: float, divergence: float) -> float:
    """beta_0 of the next step: by 2 % at most towards the target."""
    target = getattr(section, "target_divergence", None)
    if target is None:
        return beta_0
    return beta_0 * (1 + 0.1 * np.clip(divergence / target - 1, -0.2, 0.2))


def rows(values: Array, like: Tensor) -> Tensor:
    """One number a row, to be multiplied with ``like``."""
    column = torch.as_tensor(values, dtype=torch.float64)
    return column.reshape(-1, *(1,) * (like.ndim - 1))


def row_gradient(section: Any, weight: Array, beta: Array, step: Step, v_ref: Tensor, u: Tensor):
    """dL/dv of rows, before the mean over the step's rows: L is a mean over a row's elements."""
    v = torch.cat([call.v.detach() for call in step.policy_calls]).double()
    v_ref, elements = v_ref.double(), v[0].numel()
    if section.method != "diffusion_nft":
        return 2 / elements * (rows(weight, v) * (v - u) + rows(beta, v) * (v - v_ref))
    b, left, r = rows(beta, v), rows(1 - step.t.double().numpy(), v), rows((weight + 1) / 2, v)
    gradient = torch.zeros_like(v)
    for sign, share in ((1, r), (-1, 1 - r)):
        error = v_ref + sign * b * (v - v_ref) - u
        factor = torch.ones_like(r)
        if section.adaptive_weighting:
            factor = left**2 / (left * error.abs().flatten(1).mean(1).reshape(r.shape))
        # beta of the chain rule and 1 / beta of the loss are one.
        gradient += section.loss_weight * sign * share * factor * 2 / elements * error
    # Beside it the penalty, to the base; these rows compare with the base, too.
    return gradient + 2 / elements * section.kl_beta * (v - v_ref)


class Expected:
    """dL/dv of steps 1, 2, ... that a section of weights asks for, and the anchor that it keeps."""

    def __init__(self, watched: WatchedTrainer, section: Any) -> None:
        self.watched = watched
        self.section = section
        training = watched.config.training
        self.groups = np.arange(training.prompts_per_step).repeat(training.samples_per_prompt)
        self.points = training.timesteps_per_sample
        self.guidance_scale = training.guidance_scale
        self.beta_0 = getattr(section, "beta_0", 0.0)
        self.average = watched.start
        self.since = 0

    def gradient(self, step: Step) -> Tensor | None:
        """dL/dv of the step's rows, [rows, *latent_shape]; None where the policy was asked for
        another number of rows."""
        rewards = step.rewards.numpy()
        weight, beta = weights(self.section, rewards, self.groups, self.beta_0)
        sample = np.arange(len(rewards)).repeat(self.points)
        taken = (weight != 0) | (beta != 0)
        asked = sample[taken[sample]]
        if len(asked) != len(step.t):
            return None
        t, x_1 = rows(step.t.numpy(), step.x_t), step.x_1[torch.as_tensor(asked)].double()
        u = (x_1 - step.x_t.double()) / (1 - t)
        v_ref = torch.cat([self._reference(call) for call in step.policy_calls])
        found = row_gradient(self.section, weight[asked], beta[asked], step, v_ref, u)
        return found / len(sample)

    def follow(self, step: Step) -> None:
        """What the step leaves behind: the average and the controller move on."""
        if getattr(self.section, "anchor", "base") == "ema":
            decay, after = self.section.anchor_decay, step.updates[-1].after
            self.average = [
                decay * old + (1 - decay) * new
                for old, new in zip(self.average, after, strict=True)
            ]
        if getattr(self.section, "anchor", "base") == "copied":
            self.since += 1
            above = step.row["divergence"] > self.section.anchor_copy_above
            if above or self.since >= self.section.anchor_copy_after:
                self.average, self.since = step.updates[-1].after, 0
        self.beta_0 = controlled(self.section, self.beta_0, step.row["divergence"])

    def _reference(self, call: Any) -> Tensor:
        moving = getattr(self.section, "anchor", "base") != "base"
        adapter = self.average if moving else None
        return self.watched.velocity(call, adapter, guidance_scale=self.guidance_scale)


def fits(
    watched: WatchedTrainer,
    section: Any,
    steps: Sequence[Step],
    *,
    within: float = 3e-5,
    expected: type[Expected] = Expected,
) -> bool:
    """Whether the gradients of ``steps`` are those that ``section`` asks for, ``within`` a part of
    their size: rewards and v are float32, u is divided by 1 - t, and v_ref comes of another batch,
    by which 2e-6 was measured."""
    asked = expected(watched, section)
    for step in steps:
        gradient = asked.gradient(step)
        if gradient is None or (step.gradient - gradient).norm() > within * gradient.norm():
            return False
        asked.follow(step)
    return True

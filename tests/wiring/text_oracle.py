"""What the loss of GRPO with a coefficient per sample asks of the weights, by hand."""

from typing import Any

import torch
from torch import Tensor

from adrpo.config import LanguageAlgorithmSection
from wiring.adamw import distance
from wiring.text_steps import TextStep, WatchedText


def advantages(rewards: Tensor, each: int, scale: str) -> tuple[Tensor, Tensor]:
    """A of every completion in TRL's scale, and which are in a group without differences."""
    groups = rewards.view(-1, each)
    above = groups - groups.mean(1, keepdim=True)
    same = (groups.amax(1) == groups.amin(1)).repeat_interleave(each)
    if scale == "group":
        above = above / (groups.std(1, keepdim=True) + 1e-4)
    if scale == "global":
        above = above / (rewards.std() + 1e-4)
    return above.flatten().masked_fill(same, 0), same


def coefficients(section: Any, a: Tensor, same: Tensor, beta_0: float) -> Tensor:
    clip = beta_0 if section.advantage_clip is None else section.advantage_clip
    if section.method == "fixed_beta":
        beta = torch.full_like(a, beta_0)
    elif section.method == "sign_gated":
        beta = beta_0 * (1 - a.sign())
    else:
        beta = beta_0 - a.clamp(-clip, clip)
        if section.negative_coefficient == "floor":
            beta = beta.clamp(min=0)
    return beta if section.kl_on_degenerate_groups else beta.masked_fill(same, 0)


def kl(section: Any, logps: Tensor, ref_logps: Tensor) -> Tensor:
    x = ref_logps - logps
    if section.log_ratio_bound is not None:
        x = x.clamp(-section.log_ratio_bound, section.log_ratio_bound)
    found = {"k1": -x, "k2": x**2 / 2, "k3": x.exp() - x - 1}[section.kl_estimator]
    # On policy the ratio is 1, and has a gradient all the same.
    return found * (logps - logps.detach()).exp() if section.bias_correction else found


def gradient(
    watched: WatchedText, section: LanguageAlgorithmSection, step: TextStep
) -> list[Tensor]:
    """dL/dtheta of a step that is made of one batch."""
    config, batch = watched.config, step.batch
    each = config.training.samples_per_prompt
    a, same = advantages(step.rewards.sum(1), each, section.advantage_scale)
    beta_0 = step.beta_0 if section.target_kl is not None else section.beta_0
    beta = coefficients(section, a, same, beta_0).float()
    if section.clip_policy_advantage:
        clip = beta_0 if section.advantage_clip is None else section.advantage_clip
        a = a.clamp(-clip, clip)
    with watched.at(step.updates[0].before):
        logps = watched.logps(batch)
        ref_logps = watched.logps(batch, reference=True)
        mask = batch["completion_mask"].float()
        # The gradient of the clipped surrogate at ratio 1.
        tokens = -a.float()[:, None] * logps + beta[:, None] * kl(section, logps, ref_logps)
        if section.loss_type == "dr_grpo":
            loss = (tokens * mask).sum() / (len(mask) * config.generation.max_completion_length)
        else:
            assert section.loss_type == "grpo"
            loss = ((tokens * mask).sum(1) / mask.sum(1)).mean()
        return list(torch.autograd.grad(loss, watched.parameters()))


def missed(watched: WatchedText, section: Any, step: TextStep) -> float:
    """How far the step's gradient is from the one that ``section`` asks for."""
    return distance(step.updates[0].gradient, gradient(watched, section, step))


SAME = 1e-3
"""Greatest distance of two gradients that are one: float32, and batches padded otherwise."""

"""What the losses of Flow-GRPO and of Diffusion-DPO ask of the network, from a step's own points.

The Gaussian steps and the adapter's reference are the library's, which have tests of their own; the
loss, its factors and which row is whose are written again.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from adrpo.flow.path.sde import gaussian_log_prob, step_distribution
from wiring.image_oracle import shaped
from wiring.image_steps import Call, Step, WatchedTrainer

SAME = 1e-4
"""Greatest difference of two points that are one: both are float32 of size 1."""


class NoisySteps:
    """The noisy steps of a Flow-GRPO rollout, one row each: x, x_next, t, t_next, v, and the sample
    that a row is of."""

    def __init__(self, step: Step) -> None:
        per_time: dict[float, list[Call]] = {}
        for call in step.rollout:
            per_time.setdefault(float(call.t[0]), []).append(call)
        self.times = sorted(per_time)
        states = [torch.cat([call.x_t for call in per_time[t]]) for t in self.times]
        v = [torch.cat([call.v for call in per_time[t]]) for t in self.times]
        noisy, count = len(self.times) - 1, len(states[0])
        self.x, self.x_next = torch.cat(states[:-1]), torch.cat(states[1:])
        self.v = torch.cat(v[:-1])
        self.t = torch.tensor(self.times[:-1]).repeat_interleave(count)
        self.t_next = torch.tensor(self.times[1:]).repeat_interleave(count)
        self.sample = torch.arange(count).repeat(noisy)

    def distribution(self, rows: Tensor, v: Tensor, noise_level: float) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the steps ``rows`` with the velocities ``v``."""
        return step_distribution(
            self.x[rows],
            v,
            self.t[rows],
            self.t_next[rows],
            noise_level=noise_level,
            first=self.times[1],
        )

    def noise(self, noise_level: float) -> Tensor:
        """The normal draws that made the steps, if their noise was of ``noise_level``."""
        mean, std = self.distribution(torch.arange(len(self.x)), self.v, noise_level)
        return (self.x_next - mean) / std.reshape(-1, *(1,) * (mean.ndim - 1))

    def rows_of(self, call: Call) -> list[int]:
        """The steps that ``call`` asked for; rows that only fill its batch are left out."""
        found: list[int] = []
        for x, t in zip(call.x_t, call.t, strict=True):
            near = (self.x - x).abs().flatten(1).amax(1) + (self.t - t).abs()
            row = int(near.argmin())
            assert near[row] < SAME, "the update has a point that was never drawn"
            if row not in found:
                found.append(row)
        return found


def ratio_gradients(watched: WatchedTrainer, section: Any, step: Step) -> list[Tensor]:
    """dL/dv of the rows of every update of a Flow-GRPO step, call after call."""
    noisy, training = NoisySteps(step), watched.config.training
    groups = torch.arange(training.prompts_per_step).repeat_interleave(training.samples_per_prompt)
    raw = shaped(section, step.rewards.numpy(), groups.numpy())
    bound = section.advantage_clip
    weight = torch.as_tensor(raw.clip(-bound, bound), dtype=torch.float32)
    calls = [(call, noisy.rows_of(call)) for call in step.policy_calls]
    totals: dict[int, int] = {}
    for call, rows in calls:
        totals[call.update] = totals.get(call.update, 0) + len(rows)
    found = []
    for call, places in calls:
        rows = torch.tensor(places)
        v = call.v[: len(rows)].detach().clone().requires_grad_()
        mean, std = noisy.distribution(rows, v, section.noise_level)
        before, spread = noisy.distribution(rows, noisy.v[rows], section.noise_level)
        own = gaussian_log_prob(noisy.x_next[rows], mean, std)
        ratio = (own - gaussian_log_prob(noisy.x_next[rows], before, spread)).exp()
        a, low, high = weight[noisy.sample[rows]], 1 - section.clip_range, 1 + section.clip_range
        surrogate = -torch.minimum(ratio * a, ratio.clamp(low, high) * a)
        v_ref = watched.velocity(call, None)[: len(rows)]
        base, _ = noisy.distribution(rows, v_ref, section.noise_level)
        kl = ((mean - base) ** 2).flatten(1).mean(1) / (2 * std**2)
        ((surrogate + section.beta_0 * kl).sum() / totals[call.update]).backward()
        assert v.grad is not None
        found.append(v.grad)
    return found


def ratio_fits(watched: WatchedTrainer, section: Any, step: Step) -> bool:
    """Whether the gradients of a Flow-GRPO step are those that ``section`` asks for."""
    expected = ratio_gradients(watched, section, step)
    received = [
        call.gradient[: len(g)] for call, g in zip(step.policy_calls, expected, strict=True)
    ]
    # log r is a difference of equal numbers of size 1 in float32.
    return close(torch.cat(received), torch.cat(expected), 1e-3)


class Pairs:
    """The pairs of a folder as latents, and their prompts."""

    def __init__(self, watched: WatchedTrainer, folder: Path) -> None:
        lines = (folder / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
        self.rows = [json.loads(line) for line in lines]
        self.prompts = [row["prompt"] for row in self.rows]
        self.chosen, self.rejected = (
            watched.policy.encode_images(
                [Image.open(folder / row[side]).convert("RGB") for row in self.rows]
            )
            for side in ("chosen", "rejected")
        )

    def find(self, call: Call) -> list[int]:
        """The pair of each of the first half of a call's rows: the one with which both halves have
        the same noise."""
        best, worst = call.x_t.chunk(2)
        found = []
        for x_w, x_l, t in zip(best, worst, call.t, strict=False):
            noise = [(x - t * x_1) for x, x_1 in ((x_w, self.chosen), (x_l, self.rejected))]
            apart = (noise[0] - noise[1]).abs().flatten(1).amax(1)
            assert apart.min() < SAME, "the images of a pair have noises of their own"
            found.append(int(apart.argmin()))
        return found


def preference_fits(watched: WatchedTrainer, section: Any, step: Step, pairs: Pairs) -> bool:
    """Whether the gradient of a step of Diffusion-DPO is the one that ``section`` asks for."""
    received, expected = [], []
    total = sum(len(call.t) for call in step.policy_calls) // 2
    for call in step.policy_calls:
        index = pairs.find(call)
        x_1 = torch.cat([pairs.chosen[index], pairs.rejected[index]])
        u = (x_1 - call.x_t) / (1 - call.t.reshape(-1, 1, 1, 1))
        v = call.v.detach().clone().requires_grad_()
        own = (v - u).square().flatten(1).mean(1)
        base = (watched.velocity(call, None) - u).square().flatten(1).mean(1)
        gain = (own - base).chunk(2)
        loss = torch.nn.functional.softplus(section.beta / 2 * (gain[0] - gain[1]))
        (loss.sum() / total).backward()
        received.append(call.gradient)
        expected.append(v.grad)
    return close(torch.cat(received), torch.cat(expected), 1e-3)


def close(received: Tensor, expected: Tensor, share: float) -> bool:
    """Whether two gradients differ by less than ``share`` of their size."""
    distance = (received - expected).norm() / expected.norm()
    return math.isfinite(distance) and float(distance) < share

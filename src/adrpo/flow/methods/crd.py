"""CRD: the implicit reward of prediction errors, regressed on the reward within each prompt."""

from typing import final

import torch
from torch import Tensor

from adrpo.coefficient import Coefficient
from adrpo.config import CrdSection
from adrpo.core import velocity_divergence
from adrpo.flow.methods.base import (
    Method,
    Rows,
    Terms,
    Weights,
    clipped_advantages,
    penalty,
)

SMALLEST_ERROR = 1e-5


def implicit_reward(v: Tensor, v_old: Tensor, u_t: Tensor, *, error_weighting: bool) -> Tensor:
    """r_theta = -(|v - u_t|^2 / w - |v_old - u_t|^2 / w_old), [rows] (arXiv 2603.14128).

    |.|^2 is the mean over a row's elements; w is the mean |v - u_t|, held constant and at least
    1e-5, w_old likewise, and both are 1 without ``error_weighting``. At v = v_old it is 0.
    """

    def error(velocity: Tensor) -> Tensor:
        squared = velocity_divergence(velocity, u_t)
        if not error_weighting:
            return squared
        size = (velocity - u_t).detach().abs().flatten(1).mean(1)
        return squared / size.clamp(min=SMALLEST_ERROR)

    return error(v_old.detach()) - error(v)


def group_means(values: Tensor, group: Tensor, weight: Tensor) -> Tensor:
    """The mean of ``values`` [rows] over each row's ``group`` with ``weight`` >= 0, [rows]; 0 in a
    group without any weight."""
    index = torch.unique(group, return_inverse=True)[1]
    sums = torch.zeros_like(values).index_add(0, index, torch.where(weight > 0, values * weight, 0))
    totals = torch.zeros_like(values).index_add(0, index, weight.to(values.dtype))
    return (sums / totals.where(totals > 0, 1))[index]


@final
class Crd(Method):
    """Centered Reward Distillation (Zhu et al., arXiv 2603.14128): with weight
    r = (clip(A, -c, c) / c + 1) / 2 in [0, 1], r_theta the implicit reward from v_old and means
    over the samples of the prompt,

        c / b (b (r_theta - mean r_theta) - (r - mean r))^2 + beta |v - v_ref|^2

    The mean of r_theta is a constant, and comes from one more call of the policy for each row. With
    ``centering: softmax`` it is the mean of two such squares, whose means are weighted by
    softmax(r / tau) and softmax(-r / tau). A prompt with equal rewards pulls its samples' implicit
    rewards together. The published code's means are over all samples of a micro-batch; these, over
    the prompt's, are the paper's.
    """

    old = True
    grouped = True

    def __init__(self, settings: CrdSection) -> None:
        self.settings = settings
        self.coefficient = Coefficient(settings.coefficient, settings.beta_0)

    def terms(self, rewards: Tensor, group_ids: Tensor, novelty: Tensor | None) -> Terms:
        bound = self.settings.advantage_clip
        raw, advantages, clipped = clipped_advantages(rewards, group_ids, self.settings, novelty)
        scored = rewards.isfinite()
        weight = torch.where(scored, (advantages / bound + 1) / 2, 0)
        return Terms(advantages=raw, clipped=clipped, weight=weight, level=advantages, taken=scored)

    def statistic(self, v: Tensor, rows: Rows) -> Tensor:
        """r_theta."""
        return implicit_reward(
            v, rows.v_old, rows.path.u_t, error_weighting=self.settings.error_weighting
        )

    def of_group(self, statistic: Tensor, weights: Weights, group: Tensor) -> Tensor:
        """b mean r_theta - mean r of each centring, [rows, centrings]."""
        settings, reward = self.settings, weights.weight
        tau = settings.centering_temperature
        taken = weights.taken
        slopes = (0.0,) if settings.centering == "uniform" else (1 / tau, -1 / tau)
        columns = []
        for slope in slopes:
            # A constant of the group in the exponent changes no mean.
            share = (slope * (reward - 0.5)).exp() * taken
            implicit = torch.where(taken, statistic, 0)
            columns.append(
                settings.implicit_scale * group_means(implicit, group, share)
                - group_means(reward, group, share)
            )
        return torch.stack(columns, dim=1)

    def loss(self, v: Tensor, v_ref: Tensor, rows: Rows) -> Tensor:
        settings, weights = self.settings, rows.weights
        b = settings.implicit_scale
        differences = (b * self.statistic(v, rows) - weights.weight)[:, None] - rows.of_group
        regression = settings.advantage_clip / b * differences.square().mean(1)
        return regression + penalty(v, v_ref, weights.beta)

"""DGPO: a preference between the good and the bad samples of a group, by their errors."""

from typing import final

import torch
from torch import Tensor

from adrpo.coefficient import Coefficient
from adrpo.config import DgpoSection
from adrpo.config.schedules import FixedSchedule
from adrpo.core import velocity_divergence
from adrpo.flow.methods.base import Method, Rows, Terms, Weights, clipped_advantages
from adrpo.flow.methods.crd import group_means


@final
class Dgpo(Method):
    """Direct Group Preference Optimization (arXiv 2510.08425): weight A, and the loss of a row

        w_g A |v - u_t|^2,    w_g = sigmoid(beta mean over the group of A (d - d_ref))

    with d = |v - u_t|^2 and d_ref that of the model of ``algorithm.anchor``. w_g is a constant,
    near 1 while the policy fits the group's good samples worse than the reference does, and the
    smaller the better it fits them. The samples of a prompt share their points (t, x_0). There is
    no penalty.
    """

    old = True
    grouped = True

    def __init__(self, settings: DgpoSection) -> None:
        self.settings = settings
        self.coefficient = Coefficient(FixedSchedule(), 0.0)

    def terms(self, rewards: Tensor, group_ids: Tensor, novelty: Tensor | None) -> Terms:
        raw, advantages, clipped = clipped_advantages(rewards, group_ids, self.settings, novelty)
        return Terms(
            advantages=raw,
            clipped=clipped,
            weight=advantages,
            level=advantages,
            taken=rewards.isfinite(),
        )

    def statistic(self, v: Tensor, rows: Rows) -> Tensor:
        """d - d_ref."""
        u_t = rows.path.u_t
        return velocity_divergence(v, u_t) - velocity_divergence(rows.v_old, u_t)

    def of_group(self, statistic: Tensor, weights: Weights, group: Tensor) -> Tensor:
        """w_g, [rows, 1]."""
        taken = weights.taken
        terms = torch.where(taken, weights.weight * statistic, 0)
        return (self.settings.beta * group_means(terms, group, taken)).sigmoid()[:, None]

    def loss(self, v: Tensor, v_ref: Tensor, rows: Rows) -> Tensor:
        error = velocity_divergence(v, rows.path.u_t)
        return rows.of_group[:, 0] * rows.weights.weight * error

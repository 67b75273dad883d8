"""What a method decides: the weights of the loss's two terms, sample by sample."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from adrpo.core import flow_objective
from adrpo.flow.path.path_samples import PathSamples


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Per-sample numbers of one step, all [batch] and constants of the loss

        weight |v - u_t|^2 + beta |v - v_ref|^2

    ``advantages`` is A = R - V(c) in its scale, before the clip; ``clipped`` tells where a clip
    changed it. A sample with weight and beta 0 takes no part in the update.
    """

    advantages: Tensor
    clipped: Tensor
    weight: Tensor
    beta: Tensor


class Method(Protocol):
    """One way to weigh samples, and the loss it weighs."""

    def weigh(self, rewards: Tensor, group_ids: Tensor) -> Weights:
        """Weights of the samples with ``rewards`` [batch]; a sample whose reward is not finite has
        no score and must get weight 0."""
        ...

    def loss(
        self, v: Tensor, v_ref: Tensor, path: PathSamples, weight: Tensor, beta: Tensor
    ) -> Tensor:
        """Loss of each row, [rows]; only ``v`` carries a gradient."""
        ...

    def observe(self, divergence: float) -> None:
        """Learn the divergence of the step that was just made."""
        ...

    def state(self) -> dict[str, float]: ...

    def load_state(self, state: dict[str, float]) -> None: ...


class TwoTermMethod:
    """A method whose loss is the two terms of eq. 6, and which keeps nothing between steps."""

    def loss(
        self, v: Tensor, v_ref: Tensor, path: PathSamples, weight: Tensor, beta: Tensor
    ) -> Tensor:
        return flow_objective(v, path.u_t, v_ref, weight, beta=beta)

    def observe(self, divergence: float) -> None:
        pass

    def state(self) -> dict[str, float]:
        return {}

    def load_state(self, state: dict[str, float]) -> None:
        pass


def no_clip(advantages: Tensor) -> Tensor:
    """``Weights.clipped`` of a method without a clip."""
    return torch.zeros_like(advantages, dtype=torch.bool)

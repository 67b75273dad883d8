"""The weight of the penalty: beta of each sample, and the beta_0 that it varies around.

A method asks for it after it has its advantages, whatever its loss is; what it learns from step to
step is here and nowhere else.
"""

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

from adrpo.core import adaptive_coefficient
from adrpo.core.controller import controlled


class Coefficient(ABC):
    """beta as a function of the advantages, around a ``beta_0`` that a controller may move.

    Args:
        beta_0: where it starts.
        target: the divergence that the controller holds (``core.controller``); None keeps beta_0.
    """

    def __init__(self, beta_0: float, *, target: float | None = None) -> None:
        self.beta_0 = beta_0
        self.target = target

    @abstractmethod
    def of(self, advantages: Tensor) -> Tensor:
        """beta of the samples whose clipped advantages are ``advantages``, [batch]."""

    def observe(self, divergence: float) -> None:
        """Learn the divergence of the step that was just made."""
        if self.target is not None:
            self.beta_0 = controlled(self.beta_0, divergence=divergence, target=self.target)

    def state(self) -> dict[str, float]:
        """All that steps change."""
        return {"beta_0": self.beta_0}

    def load_state(self, state: dict[str, float]) -> None:
        """Take back what ``state`` gave."""
        # Earlier checkpoints of methods without a controller hold none.
        self.beta_0 = state.get("beta_0", self.beta_0)


@final
class AdaptiveCoefficient(Coefficient):
    """beta = beta_0 - A (eq. 4, arXiv 2510.18053)."""

    def of(self, advantages: Tensor) -> Tensor:
        return adaptive_coefficient(advantages, beta_0=self.beta_0, clip=None)


@final
class FixedCoefficient(Coefficient):
    """beta = beta_0 for every sample; 0 is no penalty."""

    def of(self, advantages: Tensor) -> Tensor:
        return torch.full_like(advantages, self.beta_0)

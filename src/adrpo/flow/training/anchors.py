"""The model that the policy is held to, behind v_ref."""

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch

from adrpo.config import AlgorithmSection
from adrpo.config.algorithms import Anchored
from adrpo.flow.models.lora import standing_in
from adrpo.flow.models.protocol import FlowPolicy


class Anchor(Protocol):
    """The model behind v_ref, as the policy evaluated inside ``active``."""

    def active(self) -> AbstractContextManager[None]: ...

    def update(self) -> None:
        """Follow the policy after its optimizer step."""
        ...

    def state(self) -> dict[str, Any]: ...

    def load_state(self, state: dict[str, Any]) -> None: ...


class BaseAnchor:
    """The policy's reference: the frozen base, the adapter off (the paper's v_ref), or the policy
    at step 0 where it began with an adapter (``adapter.start_from``)."""

    def __init__(self, policy: FlowPolicy) -> None:
        self.policy = policy

    def active(self) -> AbstractContextManager[None]:
        return self.policy.reference()

    def update(self) -> None:
        pass

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass


class EmaAnchor:
    """The exponential moving average of the adapter's parameters theta:

        theta_anchor <- decay theta_anchor + (1 - decay) theta     after each step

    It begins at the base. Each step then tilts a reference that has moved along, so that bounded
    tilts add up, and drift with them (docs/method/equations.md, fact 4). DiffusionNFT (arXiv
    2509.16117) anchors to such an average.

    With ``warm_up`` the decay after n updates is at most (1 + n) / (10 + n), so that an average
    meant to stand for the policy soon forgets where it began.
    """

    def __init__(self, policy: FlowPolicy, decay: float, *, warm_up: bool = False) -> None:
        self.policy = policy
        self.decay = decay
        self.warm_up = warm_up
        self.updates = 0
        self.values = [parameter.detach().clone() for parameter in policy.adapter_parameters()]

    def active(self) -> AbstractContextManager[None]:
        """The average stands in for the adapter inside, and the adapter is as it was afterwards."""
        return standing_in(self.policy.adapter_parameters(), self.values)

    @torch.no_grad()
    def update(self) -> None:
        fresh = (1 + self.updates) / (10 + self.updates)
        decay = min(self.decay, fresh) if self.warm_up else self.decay
        for value, parameter in zip(self.values, self.policy.adapter_parameters(), strict=True):
            value.lerp_(parameter, 1 - decay)
        self.updates += 1

    def state(self) -> dict[str, Any]:
        return {"updates": self.updates, "values": self.values}

    def load_state(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        for value, saved in zip(self.values, state["values"], strict=True):
            value.copy_(saved)


def build_anchor(algorithm: AlgorithmSection, policy: FlowPolicy) -> Anchor:
    """The anchor of a configuration, on a policy that has its adapter.

    A method without a divergence term has no ``anchor``: its base is there and never evaluated.
    """
    if isinstance(algorithm, Anchored) and algorithm.anchor == "ema":
        return EmaAnchor(policy, algorithm.anchor_decay)
    return BaseAnchor(policy)

"""Models beside the policy: the one that it is held to, behind v_ref, and those that it was."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from adrpo.config import AlgorithmSection
from adrpo.config.algorithm_keys import Anchored, Lagged, SnapshotSection
from adrpo.config.algorithms import CrdSection, DgpoSection, DiffusionNftSection
from adrpo.flow.models.lora import standing_in
from adrpo.flow.models.protocol import FlowPolicy


class Anchor(Protocol):
    """A model beside the policy, as the policy evaluated inside ``active``."""

    def active(self) -> AbstractContextManager[None]: ...

    def update(self, penalty: float) -> None:
        """Follow the policy after a step, whose penalty was ``penalty``."""
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

    def update(self, penalty: float) -> None:
        pass

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass


class AdapterCopy:
    """Base of models that are the policy with other values of the adapter's parameters, which it
    begins with."""

    def __init__(self, policy: FlowPolicy) -> None:
        self.policy = policy
        self.updates = 0
        self.values = [parameter.detach().clone() for parameter in policy.adapter_parameters()]

    def active(self) -> AbstractContextManager[None]:
        """The values stand in for the adapter inside, and the adapter is as it was afterwards."""
        return standing_in(self.policy.adapter_parameters(), self.values)

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """theta_copy <- decay theta_copy + (1 - decay) theta."""
        for value, parameter in zip(self.values, self.policy.adapter_parameters(), strict=True):
            value.lerp_(parameter, 1 - decay)

    def state(self) -> dict[str, Any]:
        return {"updates": self.updates, "values": self.values}

    def load_state(self, state: dict[str, Any]) -> None:
        self.updates = state["updates"]
        for value, saved in zip(self.values, state["values"], strict=True):
            value.copy_(saved)


Decay = Callable[[int], float]
"""Number of updates made -> decay of the next one."""


class EmaAnchor(AdapterCopy):
    """The exponential moving average of the adapter's parameters theta:

        theta_anchor <- d theta_anchor + (1 - d) theta     after each step

    It begins at the base. Each step then tilts a reference that has moved along, so that bounded
    tilts add up, and drift with them (docs/method/equations.md, fact 4). DiffusionNFT (arXiv
    2509.16117) anchors to such an average, and draws its samples from it.
    """

    def __init__(self, policy: FlowPolicy, decay: Decay) -> None:
        super().__init__(policy)
        self.decay = decay

    def update(self, penalty: float = 0.0) -> None:
        self.follow(self.decay(self.updates))
        self.updates += 1


class CopiedAnchor(AdapterCopy):
    """A copy of the policy, made anew after a step whose penalty is above ``above``, or which is
    the ``after``-th since the last copy: GARDO's adaptive reference (arXiv 2512.24138).

    It begins at the base. ``updates`` counts the steps since the last copy.
    """

    def __init__(self, policy: FlowPolicy, *, above: float, after: int) -> None:
        super().__init__(policy)
        self.above = above
        self.after = after

    def update(self, penalty: float) -> None:
        self.updates += 1
        if penalty > self.above or self.updates >= self.after:
            self.follow(0.0)
            self.updates = 0


def constant(decay: float) -> Decay:
    """``decay`` for every update."""
    return lambda updates: decay


def warming_up(decay: float) -> Decay:
    """At most (1 + n) / (10 + n) after n updates, so that an average meant to stand for the policy
    soon forgets where it began."""
    return lambda updates: min(decay, (1 + updates) / (10 + updates))


def growing(settings: SnapshotSection) -> Decay:
    """min(decay + decay_growth max(n - decay_flat, 0), decay_most) after n updates.

    >>> settings = SnapshotSection(decay=0.25, decay_growth=0.005, decay_most=0.999)
    >>> [growing(settings)(n) for n in (0, 100, 1000)]
    [0.25, 0.75, 0.999]
    """

    def decay(updates: int) -> float:
        grown = settings.decay_growth * max(updates - settings.decay_flat, 0)
        return min(settings.decay + grown, settings.decay_most)

    return decay


def build_anchor(algorithm: AlgorithmSection, policy: FlowPolicy) -> Anchor:
    """The anchor of a configuration, on a policy that has its adapter.

    A method without a divergence term has no ``anchor``: its base is there and never evaluated.
    """
    if not isinstance(algorithm, Anchored) or algorithm.anchor == "base":
        return BaseAnchor(policy)
    if algorithm.anchor == "ema":
        return EmaAnchor(policy, constant(algorithm.anchor_decay))
    return CopiedAnchor(
        policy, above=algorithm.anchor_copy_above, after=algorithm.anchor_copy_after
    )


@dataclass(frozen=True, kw_only=True)
class Models:
    """The models beside the policy of a method of regression.

    ``anchor`` is behind v_ref, ``old`` behind v_old where the method has one, and ``sampler`` draws
    the samples in the policy's place. One model may have several of these parts.
    """

    anchor: Anchor
    old: Anchor | None = None
    sampler: Anchor | None = None

    def sampling(self) -> AbstractContextManager[None]:
        """Inside, the policy is the one that draws the samples."""
        return nullcontext() if self.sampler is None else self.sampler.active()

    def update(self, penalty: float) -> None:
        """All of them follow the policy after a step."""
        for model in {id(model): model for model in self._named().values()}.values():
            model.update(penalty)

    def state(self) -> dict[str, Any]:
        """State of the models, by the names of their parts."""
        return {name: model.state() for name, model in self._named().items()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        for name, model in self._named().items():
            # Before there were several, v_old's model was called the anchor.
            model.load_state(state[name] if name in state else state["anchor"])

    def _named(self) -> dict[str, Anchor]:
        parts = {"anchor": self.anchor, "old": self.old, "sampler": self.sampler}
        return {name: model for name, model in parts.items() if model is not None}


def build_models(algorithm: AlgorithmSection, policy: FlowPolicy) -> Models:
    """The models beside a policy that has its adapter, as a configuration names them."""
    settings = algorithm.sampling_policy if isinstance(algorithm, Lagged) else None
    sampler = build_snapshot(settings, policy)
    if isinstance(algorithm, DiffusionNftSection):
        old = sampler if algorithm.anchor == "sampling" else build_anchor(algorithm, policy)
        return Models(anchor=BaseAnchor(policy), old=old, sampler=sampler)
    anchor = build_anchor(algorithm, policy)
    if isinstance(algorithm, DgpoSection):
        return Models(anchor=anchor, old=anchor, sampler=sampler)
    old = build_snapshot(algorithm.old, policy) if isinstance(algorithm, CrdSection) else None
    return Models(anchor=anchor, old=old, sampler=sampler)


def build_snapshot(settings: SnapshotSection | None, policy: FlowPolicy) -> EmaAnchor | None:
    """The policy that lags behind as ``settings`` say, beginning where the policy begins; None
    where there is none."""
    return None if settings is None else EmaAnchor(policy, growing(settings))

"""The loops by their names: the peers', and our trainer's."""

from typing import Any, Protocol

from adrpo.flow.training.online import OnlineLoop
from benchmarks.peer_loops.base import PeerLoop
from benchmarks.peer_loops.grpo import FlowFactoryGrpo, FlowGrpo
from benchmarks.peer_loops.regression import Awm, DiffusionNft, FlowFactoryAwm, FlowFactoryNft
from benchmarks.peer_loops.structures import OURS, STRUCTURES

PEERS: dict[str, type[PeerLoop]] = {
    "flow_grpo": FlowGrpo,
    "diffusion_nft": DiffusionNft,
    "awm": Awm,
    "flow_factory_grpo": FlowFactoryGrpo,
    "flow_factory_nft": FlowFactoryNft,
    "flow_factory_awm": FlowFactoryAwm,
}

NAMES = (*PEERS, *OURS)


class Loop(Protocol):
    """A loop that makes steps, ours or a peer's."""

    def step(self, step: int) -> dict[str, Any]: ...


def recipe_of(name: str) -> str:
    """The recipe whose constants the loop ``name`` has."""
    return OURS[name] if name in OURS else STRUCTURES[name].recipe


def build_loop(name: str, trainer: OnlineLoop) -> Loop:
    """The loop ``name`` on the model and data of ``trainer``, which is new and of its recipe."""
    return trainer if name in OURS else PEERS[name](trainer)

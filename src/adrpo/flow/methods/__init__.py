"""The methods of online, anchored regression: one small file each, one trainer for all."""

from collections.abc import Callable
from typing import Any

from adrpo.config import (
    AdrpoSection,
    AwmSection,
    DiffusionNftSection,
    FixedBetaSection,
    OrwCfmW2Section,
    RaftSection,
)
from adrpo.flow.methods.adrpo import Adrpo, FixedBeta
from adrpo.flow.methods.awm import Awm
from adrpo.flow.methods.base import Method, Weights
from adrpo.flow.methods.diffusion_nft import DiffusionNft
from adrpo.flow.methods.orw_cfm_w2 import OrwCfmW2
from adrpo.flow.methods.raft import Raft

METHODS: dict[type, Callable[[Any], Method]] = {
    AdrpoSection: Adrpo,
    FixedBetaSection: FixedBeta,
    OrwCfmW2Section: OrwCfmW2,
    RaftSection: Raft,
    AwmSection: Awm,
    DiffusionNftSection: DiffusionNft,
}


def build_method(settings: Any) -> Method:
    """The method of a configuration's section ``algorithm``."""
    return METHODS[type(settings)](settings)


__all__ = ["METHODS", "Method", "Weights", "build_method"]

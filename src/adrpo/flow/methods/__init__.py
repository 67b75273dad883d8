"""The methods of online, anchored regression: one small file each, one trainer for all."""

from collections.abc import Callable
from typing import Any

from adrpo.config import (
    AdrpoConfig,
    AwmConfig,
    DiffusionNftConfig,
    FixedBetaConfig,
    OrwCfmW2Config,
    RaftConfig,
)
from adrpo.flow.methods.adrpo import Adrpo, FixedBeta
from adrpo.flow.methods.awm import Awm
from adrpo.flow.methods.base import Method, Weights
from adrpo.flow.methods.diffusion_nft import DiffusionNft
from adrpo.flow.methods.orw_cfm_w2 import OrwCfmW2
from adrpo.flow.methods.raft import Raft

METHODS: dict[type, Callable[[Any], Method]] = {
    AdrpoConfig: Adrpo,
    FixedBetaConfig: FixedBeta,
    OrwCfmW2Config: OrwCfmW2,
    RaftConfig: Raft,
    AwmConfig: Awm,
    DiffusionNftConfig: DiffusionNft,
}


def build_method(settings: Any) -> Method:
    """The method of a configuration's section ``algorithm``."""
    return METHODS[type(settings)](settings)


__all__ = ["METHODS", "Method", "Weights", "build_method"]

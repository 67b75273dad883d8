"""The methods of online, anchored regression: one small file each, one trainer for all."""

from collections.abc import Callable, Iterable
from typing import Any, get_args

from adrpo.config import (
    AdrpoSection,
    AwmSection,
    DiffusionNftSection,
    FixedBetaSection,
    OrwCfmW2Section,
    RaftSection,
)
from adrpo.config.algorithms import MethodSection
from adrpo.errors import AdrpoError
from adrpo.flow.methods.adrpo import Adrpo, FixedBeta
from adrpo.flow.methods.awm import Awm
from adrpo.flow.methods.base import Method, Rows, Weights
from adrpo.flow.methods.diffusion_nft import DiffusionNft
from adrpo.flow.methods.orw_cfm_w2 import OrwCfmW2
from adrpo.flow.methods.raft import Raft

METHODS: dict[type[MethodSection], Callable[[Any], Method]] = {
    AdrpoSection: Adrpo,
    FixedBetaSection: FixedBeta,
    OrwCfmW2Section: OrwCfmW2,
    RaftSection: Raft,
    AwmSection: Awm,
    DiffusionNftSection: DiffusionNft,
}


def build_method(settings: Any) -> Method:
    """The method of a configuration's section ``algorithm``.

    Raises AdrpoError for a method that is no anchored regression.
    """
    if type(settings) not in METHODS:
        raise another_method(settings, METHODS)
    return METHODS[type(settings)](settings)


def another_method(received: MethodSection, expected: Iterable[type[MethodSection]]) -> AdrpoError:
    """The error of a trainer that is given the section of a method that it does not train."""
    names = [get_args(form.model_fields["method"].annotation)[0] for form in expected]
    return AdrpoError(
        f"algorithm.method: expected {' or '.join(names)} for this trainer; received "
        f"{received.method}; adrpo.flow.build_trainer chooses the trainer by the method"
    )


__all__ = ["METHODS", "Method", "Rows", "Weights", "another_method", "build_method"]

"""Online reinforcement learning for generative models, with a divergence penalty per sample.

ADRPO (Fan et al., arXiv 2510.18053) fine-tunes a generative model on a reward while a penalty
beta_0 - A holds each sample to a frozen reference: strong where the advantage A is low, weak
where it is high. The names here are the arithmetic; ``adrpo.flow`` trains flow-matching models,
``adrpo.llm`` language models.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from adrpo.errors import AdrpoError

if TYPE_CHECKING:
    from adrpo.core import (
        adaptive_coefficient,
        clip_advantages,
        flow_objective,
        flow_target,
        group_advantages,
        token_kl,
        velocity_divergence,
    )

__version__ = "0.1.0"

__all__ = [
    "AdrpoError",
    "__version__",
    "adaptive_coefficient",
    "clip_advantages",
    "flow_objective",
    "flow_target",
    "group_advantages",
    "token_kl",
    "velocity_divergence",
]


def __getattr__(name: str) -> Any:
    """A function of the arithmetic, imported when it is first asked for: it needs torch, which
    takes seconds that ``adrpo --help`` has no use for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("adrpo.core"), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__

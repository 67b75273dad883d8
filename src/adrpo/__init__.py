"""Online reinforcement learning for generative models, with a divergence penalty per sample.

ADRPO (Fan et al., arXiv 2510.18053) fine-tunes a generative model on a reward while a penalty
beta_0 - A holds each sample to a frozen reference: strong where the advantage A is low, weak
where it is high. The names here are the arithmetic; ``adrpo.flow`` trains flow-matching models,
``adrpo.llm`` language models.
"""

from adrpo.core import (
    adaptive_coefficient,
    clip_advantages,
    flow_objective,
    flow_target,
    group_advantages,
    token_kl,
    velocity_divergence,
)
from adrpo.errors import AdrpoError

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

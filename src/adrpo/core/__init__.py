"""Arithmetic on tensors: advantages, coefficients, divergences, objectives. Pure functions."""

from adrpo.core.advantages import clip_advantages, group_advantages
from adrpo.core.coefficient import adaptive_coefficient
from adrpo.core.divergences import token_kl, velocity_divergence
from adrpo.core.objectives import flow_objective, flow_target

__all__ = [
    "adaptive_coefficient",
    "clip_advantages",
    "flow_objective",
    "flow_target",
    "group_advantages",
    "token_kl",
    "velocity_divergence",
]

"""Flow-matching text-to-image models. Importing this loads neither diffusers nor pydantic."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adrpo.config import FlowConfig
    from adrpo.flow.domain import build_trainer
    from adrpo.flow.training.adrpo import FlowTrainer
    from adrpo.flow.training.dpo import DPOTrainer
    from adrpo.flow.training.finite_differences import FiniteDifferenceTrainer
    from adrpo.flow.training.flow_grpo import FlowGRPOTrainer

__all__ = [
    "DPOTrainer",
    "FiniteDifferenceTrainer",
    "FlowConfig",
    "FlowGRPOTrainer",
    "FlowTrainer",
    "build_trainer",
]

_HOMES = {
    "DPOTrainer": "adrpo.flow.training.dpo",
    "FiniteDifferenceTrainer": "adrpo.flow.training.finite_differences",
    "FlowConfig": "adrpo.config",
    "FlowGRPOTrainer": "adrpo.flow.training.flow_grpo",
    "FlowTrainer": "adrpo.flow.training.adrpo",
    "build_trainer": "adrpo.flow.domain",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return __all__

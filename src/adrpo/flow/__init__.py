"""Flow-matching text-to-image models. Importing this loads neither diffusers nor pydantic."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adrpo.config import FlowConfig
    from adrpo.flow.dpo import DPOTrainer
    from adrpo.flow.flow_grpo import FlowGRPOTrainer
    from adrpo.flow.trainer import FlowTrainer
    from adrpo.flow.trainers import build_trainer

__all__ = ["DPOTrainer", "FlowConfig", "FlowGRPOTrainer", "FlowTrainer", "build_trainer"]

_HOMES = {
    "DPOTrainer": "adrpo.flow.dpo",
    "FlowConfig": "adrpo.config",
    "FlowGRPOTrainer": "adrpo.flow.flow_grpo",
    "FlowTrainer": "adrpo.flow.trainer",
    "build_trainer": "adrpo.flow.trainers",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

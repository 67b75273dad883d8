"""Flow-matching text-to-image models. Importing this loads neither diffusers nor pydantic."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adrpo.config import FlowConfig
    from adrpo.flow.trainer import FlowTrainer

__all__ = ["FlowConfig", "FlowTrainer"]


def __getattr__(name: str) -> Any:
    if name == "FlowTrainer":
        from adrpo.flow.trainer import FlowTrainer

        return FlowTrainer
    if name == "FlowConfig":
        from adrpo.config import FlowConfig

        return FlowConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Which trainer a configuration asks for."""

from adrpo.config import DpoSection, FlowConfig, FlowGrpoSection
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.flow.training.dpo import DPOTrainer
from adrpo.flow.training.flow_grpo import FlowGRPOTrainer
from adrpo.flow.training.loop import TrainingLoop
from adrpo.rewards.base import Reward

TRAINERS: dict[type, type[TrainingLoop]] = {
    DpoSection: DPOTrainer,
    FlowGrpoSection: FlowGRPOTrainer,
}
"""Methods whose loss is not that of anchored regression -> their trainer."""


def build_trainer(config: FlowConfig, *, reward: Reward | None = None) -> TrainingLoop:
    """The trainer of ``config``'s method; arguments as for ``FlowTrainer``."""
    return TRAINERS.get(type(config.algorithm), FlowTrainer)(config, reward=reward)

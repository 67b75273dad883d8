"""Typed, closed, loud configuration: one YAML file, checked whole before anything is loaded.

``load_config`` reads a recipe or a run's ``config.yaml`` into a :class:`FlowConfig`;
``config_to_yaml`` writes one back, and what it writes loads to an equal configuration.
"""

from adrpo.config.loading import config_to_yaml, load_config
from adrpo.config.recipes import find_recipe, recipe_names, recipes_root
from adrpo.config.schema import (
    AdapterConfig,
    AlgorithmConfig,
    CheckpointConfig,
    EvaluationConfig,
    FlowConfig,
    ModelConfig,
    PromptsConfig,
    RewardTermConfig,
    SamplingConfig,
    TrainingConfig,
)

__all__ = [
    "AdapterConfig",
    "AlgorithmConfig",
    "CheckpointConfig",
    "EvaluationConfig",
    "FlowConfig",
    "ModelConfig",
    "PromptsConfig",
    "RewardTermConfig",
    "SamplingConfig",
    "TrainingConfig",
    "config_to_yaml",
    "find_recipe",
    "load_config",
    "recipe_names",
    "recipes_root",
]

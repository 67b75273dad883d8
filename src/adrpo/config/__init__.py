"""Typed, closed, loud configuration: one YAML file, checked whole before anything is loaded.

``load_recipe`` reads a recipe or a run's ``config.yaml`` into a :class:`FlowConfig` or a
:class:`LanguageConfig`, by its domain, ``load_config`` into the former, and ``default_config``
needs no file; ``config_to_yaml`` writes one back, and what it writes loads to an equal
configuration.
"""

from adrpo.config.algorithms import (
    AdrpoConfig,
    AlgorithmConfig,
    AwmConfig,
    DiffusionNftConfig,
    DpoConfig,
    FixedBetaConfig,
    FlowGrpoConfig,
    OrwCfmW2Config,
    RaftConfig,
)
from adrpo.config.language import (
    GenerationConfig,
    LanguageAdapterConfig,
    LanguageAlgorithmConfig,
    LanguageConfig,
    LanguageEvaluationConfig,
    LanguageModelConfig,
    LanguagePromptsConfig,
    LanguageTrainingConfig,
)
from adrpo.config.loading import config_to_yaml, default_config, load_config, load_recipe
from adrpo.config.recipes import find_recipe, recipe_names, recipes_root
from adrpo.config.rewards import RewardTermConfig, written_names
from adrpo.config.schema import (
    AdapterConfig,
    CheckpointConfig,
    EvaluationConfig,
    FlowConfig,
    ModelConfig,
    PromptsConfig,
    SamplingConfig,
    TrainingConfig,
)

__all__ = [
    "AdapterConfig",
    "AdrpoConfig",
    "AlgorithmConfig",
    "AwmConfig",
    "CheckpointConfig",
    "DiffusionNftConfig",
    "DpoConfig",
    "EvaluationConfig",
    "FixedBetaConfig",
    "FlowConfig",
    "FlowGrpoConfig",
    "GenerationConfig",
    "LanguageAdapterConfig",
    "LanguageAlgorithmConfig",
    "LanguageConfig",
    "LanguageEvaluationConfig",
    "LanguageModelConfig",
    "LanguagePromptsConfig",
    "LanguageTrainingConfig",
    "ModelConfig",
    "OrwCfmW2Config",
    "PromptsConfig",
    "RaftConfig",
    "RewardTermConfig",
    "SamplingConfig",
    "TrainingConfig",
    "config_to_yaml",
    "default_config",
    "find_recipe",
    "load_config",
    "load_recipe",
    "recipe_names",
    "recipes_root",
    "written_names",
]

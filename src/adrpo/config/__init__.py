"""Typed, closed, loud configuration: one YAML file, checked whole before anything is loaded.

``load_recipe`` reads a recipe or a run's ``config.yaml`` into a :class:`FlowConfig` or a
:class:`LanguageConfig`, by its domain; ``load_flow_config`` takes the former only, and
``default_config`` needs no file. ``config_to_yaml`` writes one back, and what it writes loads to an
equal configuration. A class whose name ends in Config is a whole configuration, one whose name ends
in Section a part of it.
"""

from adrpo.config.algorithms import (
    AdrpoSection,
    AlgorithmSection,
    AwmSection,
    CrdSection,
    DgpoSection,
    DiffusionNftSection,
    DpoSection,
    FdfoSection,
    FixedBetaSection,
    FlowGrpoSection,
    OrwCfmW2Section,
    RaftSection,
)
from adrpo.config.domains import DOMAINS, domain_of, form_of
from adrpo.config.flow import (
    DistancesSection,
    FlowConfig,
    FlowEvaluationSection,
    FlowModelSection,
    FlowPromptsSection,
    FlowTrainingSection,
    SamplingSection,
)
from adrpo.config.llm import (
    GenerationSection,
    LanguageAdapterSection,
    LanguageAlgorithmSection,
    LanguageConfig,
    LanguageEvaluationSection,
    LanguageModelSection,
    LanguagePromptsSection,
    LanguageTrainingSection,
)
from adrpo.config.loading import (
    config_to_yaml,
    default_config,
    load_config,
    load_flow_config,
    load_recipe,
    resolve_settings,
)
from adrpo.config.names import setting_names, settings_called
from adrpo.config.overrides import names_and_overrides
from adrpo.config.recipes import find_recipe, recipe_names, recipes_root
from adrpo.config.rewards import RewardTermSection, written_names
from adrpo.config.shared import (
    AdapterSection,
    CheckpointSection,
    Configuration,
    EvaluationSection,
    TrainingSection,
)

__all__ = [
    "DOMAINS",
    "AdapterSection",
    "AdrpoSection",
    "AlgorithmSection",
    "AwmSection",
    "CheckpointSection",
    "Configuration",
    "CrdSection",
    "DgpoSection",
    "DiffusionNftSection",
    "DistancesSection",
    "DpoSection",
    "EvaluationSection",
    "FdfoSection",
    "FixedBetaSection",
    "FlowConfig",
    "FlowEvaluationSection",
    "FlowGrpoSection",
    "FlowModelSection",
    "FlowPromptsSection",
    "FlowTrainingSection",
    "GenerationSection",
    "LanguageAdapterSection",
    "LanguageAlgorithmSection",
    "LanguageConfig",
    "LanguageEvaluationSection",
    "LanguageModelSection",
    "LanguagePromptsSection",
    "LanguageTrainingSection",
    "OrwCfmW2Section",
    "RaftSection",
    "RewardTermSection",
    "SamplingSection",
    "TrainingSection",
    "config_to_yaml",
    "default_config",
    "domain_of",
    "find_recipe",
    "form_of",
    "load_config",
    "load_flow_config",
    "load_recipe",
    "names_and_overrides",
    "recipe_names",
    "recipes_root",
    "resolve_settings",
    "setting_names",
    "settings_called",
    "written_names",
]

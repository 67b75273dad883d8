"""Every key of a language run that the trainer must know arrives in its arguments, and no other."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from adrpo.config import LanguageConfig
from adrpo.config.llm import (
    GenerationSection,
    LanguageAlgorithmSection,
    LanguageTrainingSection,
)
from adrpo.runs.directory import RunDirectory
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS

CHANGES: list[tuple[str, Any, dict[str, Any]]] = [
    ("algorithm.method", "sign_gated", {"coefficient": "sign_gated"}),
    ("algorithm.method", "fixed_beta", {"coefficient": "fixed"}),
    ("algorithm.beta_0", 0.3, {"beta": 0.3}),
    ("algorithm.advantage_clip", 0.02, {"advantage_clip": 0.02}),
    ("algorithm.clip_policy_advantage", True, {"clip_policy_advantage": True}),
    ("algorithm.negative_coefficient", "floor", {"negative_coefficient": "floor"}),
    ("algorithm.kl_estimator", "k1", {"kl_estimator": "k1"}),
    ("algorithm.log_ratio_bound", 3.0, {"log_ratio_bound": 3.0}),
    ("algorithm.kl_on_degenerate_groups", False, {"kl_on_degenerate_groups": False}),
    ("algorithm.target_kl", 0.5, {"target_kl": 0.5}),
    ("algorithm.advantage_scale", "none", {"scale_rewards": "none"}),
    # TRL's deviation over the batch has the differences between prompts in it.
    ("algorithm.advantage_scale", "global", {"scale_rewards": "batch"}),
    ("algorithm.loss_type", "dr_grpo", {"loss_type": "dr_grpo"}),
    ("algorithm.bias_correction", True, {"use_bias_correction_kl": True}),
    ("generation.max_completion_length", 11, {"max_completion_length": 11}),
    ("generation.temperature", 0.7, {"temperature": 0.7}),
    ("generation.top_p", 0.9, {"top_p": 0.9}),
    ("training.steps", 7, {"max_steps": 7}),
    ("training.prompts_per_step", 8, {"gradient_accumulation_steps": 1}),
    (
        "training.samples_per_prompt",
        16,
        {"num_generations": 16, "gradient_accumulation_steps": 4},
    ),
    (
        "training.micro_batch_size",
        32,
        {"per_device_train_batch_size": 32, "gradient_accumulation_steps": 4},
    ),
    ("training.learning_rate", 2e-5, {"learning_rate": 2e-5}),
    ("training.learning_rate_schedule", "cosine", {"lr_scheduler_type": "cosine"}),
    ("training.warmup_steps", 5, {"warmup_steps": 5}),
    ("training.weight_decay", 0.1, {"weight_decay": 0.1}),
    ("training.max_grad_norm", 0.25, {"max_grad_norm": 0.25}),
    ("training.seed", 6, {"seed": 6}),
    # Within the one reward function that TRL is given.
    ("training.reward_normalization", "group", {}),
]

DERIVED = ("steps_per_generation", "generation_batch_size")
"""What TRL computes from the geometry, which the changes name by its own fields."""


def arguments(tmp_path: Path, key: str = "", value: Any = None) -> dict[str, Any]:
    from adrpo.llm.arguments import trainer_arguments

    settings: dict[str, Any] = {"model": {"device": "cpu"}}
    if key:
        section, name = key.split(".")
        settings[section] = {name: value}
    config = LanguageConfig.model_validate(settings)
    run = RunDirectory(tmp_path / "run")
    received = trainer_arguments(config, run)
    values = {field.name: getattr(received, field.name) for field in fields(received)}
    return {
        name: getattr(value, "value", value)
        for name, value in values.items()
        if name not in DERIVED
    }


@pytest.mark.parametrize(("key", "value", "expected"), CHANGES, ids=[row[0] for row in CHANGES])
def test_a_key_arrives_and_moves_nothing_else(
    tmp_path: Path, key: str, value: Any, expected: dict[str, Any]
) -> None:
    before, after = arguments(tmp_path), arguments(tmp_path, key, value)
    changed = {name: after[name] for name in after if after[name] != before[name]}
    assert changed == expected


def test_no_key_is_forgotten_above() -> None:
    sections = {
        "algorithm": LanguageAlgorithmSection,
        "generation": GenerationSection,
        "training": LanguageTrainingSection,
    }
    keys = {
        f"{section}.{name}" for section, model in sections.items() for name in model.model_fields
    }
    assert {key for key, _, _ in CHANGES} == keys


def test_a_loss_that_is_not_finite_is_not_replaced(tmp_path: Path) -> None:
    """transformers' filter logs an earlier loss in its place, and no one learns of it."""
    assert arguments(tmp_path)["logging_nan_inf_filter"] is False

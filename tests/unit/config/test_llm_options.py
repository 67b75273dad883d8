"""Options of ADRPO for language models: one text, one default, one check, three places."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError
from trl import GRPOConfig

from adrpo.config import LanguageAlgorithmSection
from adrpo.config.keys import options_table
from adrpo.config.llm_options import (
    COEFFICIENTS,
    HELP,
    CoefficientSection,
    KLEstimator,
    TrainerOptions,
)
from adrpo.core import divergences
from adrpo.errors import AdrpoError
from adrpo.llm import ADRPOConfig
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS

SAME_NAME = tuple(CoefficientSection.model_fields)
IN_A_RECIPE = {name: name for name in SAME_NAME} | {"beta": "beta_0", "coefficient": "method"}
"""Option of ADRPOConfig -> key of the section algorithm."""


def trainer_config(folder: Path, **options: Any) -> ADRPOConfig:
    return ADRPOConfig(str(folder), use_cpu=True, bf16=False, report_to=[], **options)


def test_the_trainer_has_these_options_and_no_other() -> None:
    new = {field.name for field in fields(ADRPOConfig)} - {f.name for f in fields(GRPOConfig)}
    assert new | {"beta"} == HELP.keys() == TrainerOptions.model_fields.keys()


def test_a_field_of_the_trainer_has_the_words_and_the_default() -> None:
    described = {field.name: field for field in fields(ADRPOConfig)}
    documented = " ".join(str(ADRPOConfig.__doc__).split())
    for name, option in TrainerOptions.model_fields.items():
        assert described[name].default == option.default
        assert described[name].metadata["help"] == option.description
        assert f"`{option.default!r}`): {option.description} " in f"{documented} "


def test_a_key_of_a_recipe_has_the_words_and_the_default() -> None:
    words = LanguageAlgorithmSection.model_fields["beta_0"].description
    assert words != TrainerOptions.model_fields["beta"].description, "0 is another matter there"
    for name, key in IN_A_RECIPE.items():
        option, field = (
            TrainerOptions.model_fields[name],
            LanguageAlgorithmSection.model_fields[key],
        )
        assert field.description == option.description or name == "beta"
        assert COEFFICIENTS.get(str(field.default), field.default) == option.default


def test_the_document_has_the_table() -> None:
    assert options_table() in Path("docs/use/llm.md").read_text(encoding="utf-8"), (
        "put what adrpo.config.keys.options_table() returns into it"
    )


def test_estimators_are_those_of_core() -> None:
    """Named again in config, which loads no torch."""
    assert get_args(KLEstimator) == get_args(divergences.KLEstimator)


POSSIBLE: list[dict[str, Any]] = [
    {},
    {"advantage_clip": 0.02},
    {"advantage_clip": 0.08, "negative_coefficient": "floor"},
    {"advantage_clip": 0.08, "coefficient": "fixed"},
    {"coefficient": "reward_adaptive"},
    {"coefficient": "reward_adaptive", "advantage_clip": 2.0},
    {"beta": 0.0, "coefficient": "fixed"},
    {"target_kl": 0.1, "log_ratio_bound": None, "kl_estimator": "k1"},
]
IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"beta": -0.1}, "beta: expected a number >= 0, received -0.1"),
    ({"beta": math.nan}, "beta: "),
    ({"coefficient": "none"}, "coefficient: expected "),
    ({"kl_estimator": "k4"}, "kl_estimator: expected 'k1', 'k2' or 'k3', received 'k4'"),
    ({"negative_coefficient": "clip"}, "negative_coefficient: expected 'refuse', 'floor' or"),
    ({"advantage_clip": 0.0}, "advantage_clip: expected a number > 0, received 0.0"),
    ({"log_ratio_bound": -1.0}, "log_ratio_bound: expected a number > 0, received -1.0"),
    ({"target_kl": 0.0}, "target_kl: expected a number > 0, received 0.0"),
    ({"advantage_clip": "a"}, "advantage_clip: expected a number, received 'a'"),
    ({"clip_policy_advantage": 1}, "clip_policy_advantage: expected true or false, received 1"),
    ({"beta": 0.0, "coefficient": "fixed", "target_kl": 0.1}, "beta: expected a number above 0"),
    (
        {"beta": 1e-5, "coefficient": "reward_adaptive"},
        "beta: expected at least 0.0001, the least coefficient of reward_adaptive, received 1e-05",
    ),
    ({"advantage_clip": 0.08}, "advantage_clip: expected at most beta_0 = 0.04, received 0.08"),
    (
        {"advantage_clip": 0.02, "target_kl": 0.1},
        "advantage_clip: expected at most",
    ),
]


def recipe_section(options: dict[str, Any]) -> LanguageAlgorithmSection:
    methods = {kind: method for method, kind in COEFFICIENTS.items()}
    keys = {IN_A_RECIPE[name]: value for name, value in options.items()}
    if "method" in keys:
        keys["method"] = methods.get(keys["method"], keys["method"])
    return LanguageAlgorithmSection.model_validate(keys)


@pytest.mark.parametrize("options", POSSIBLE)
def test_what_one_accepts_the_other_accepts(tmp_path: Path, options: dict[str, Any]) -> None:
    made, section = trainer_config(tmp_path, **options), recipe_section(options)
    for name, key in IN_A_RECIPE.items():
        value = getattr(section, key)
        assert COEFFICIENTS.get(str(value), value) == getattr(made, name)


def test_beta_0_of_a_script_is_plain_grpo_and_a_recipe_says_so_by_its_method(
    tmp_path: Path,
) -> None:
    assert trainer_config(tmp_path, beta=0.0).beta == 0
    with pytest.raises(ValidationError, match="which goes with a fixed"):
        recipe_section({"beta": 0.0})


@pytest.mark.parametrize(("options", "message"), IMPOSSIBLE)
def test_what_one_refuses_the_other_refuses(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(AdrpoError) as caught:
        trainer_config(tmp_path, **options)
    assert str(caught.value).startswith(f"ADRPOConfig: {message}")
    with pytest.raises(ValidationError):
        recipe_section(options)


def test_a_script_may_say_that_nothing_is_clipped(tmp_path: Path) -> None:
    made = trainer_config(tmp_path, advantage_clip=math.inf, negative_coefficient="floor")
    assert made.clip_at(0.04) == math.inf

"""Settings that are allowed and hardly meant, and what is said of them."""

import importlib
import inspect

import pytest
from pydantic import ValidationError

from adrpo.config import FlowConfig, load_recipe, recipe_names
from adrpo.config.flow import BY_CLIP
from adrpo.rewards.image import EMBEDDED
from adrpo.rewards.loading import BUILT_IN

TOY_REWARD = {"name": "clip_score", "options": {"model": "embedded"}}
REAL_REWARD = {"name": "clip_score", "options": {"model": "openai/clip-vit-large-patch14"}}


def keys(pretrained: str, clip: str | None, *reward: object) -> list[str]:
    """The keys that a configuration is told of."""
    settings = {"model": {"pretrained": pretrained}, "evaluation": {"clip": clip}}
    config = FlowConfig.model_validate({**settings, "reward": reward})
    return [line.partition(": ")[0] for line in config.notices()]


def test_a_toy_that_judges_a_real_model_is_told() -> None:
    assert keys("owner/model", "embedded-evaluation", REAL_REWARD) == ["evaluation.clip"]
    assert keys("owner/model", None, REAL_REWARD, TOY_REWARD) == ["reward.1.options.model"]
    assert keys("owner/model", "owner/clip", REAL_REWARD) == []
    assert keys("embedded", "embedded-evaluation", TOY_REWARD) == []


def test_a_reward_whose_model_is_a_toy_unless_it_is_named_is_told() -> None:
    """The rewards are found by the signatures of their classes."""
    for name, place in BUILT_IN.items():
        module, _, form = place.partition(":")
        made = inspect.signature(getattr(importlib.import_module(module), form))
        model = made.parameters.get("model")
        toy = model is not None and str(model.default).startswith("embedded")
        told = keys("owner/model", None, {"name": name, "options": {}})
        assert told == (["reward.0.options.model"] if toy else []), name


def test_every_toy_is_known_by_its_name() -> None:
    for name in EMBEDDED:
        assert keys("owner/model", name, REAL_REWARD) == ["evaluation.clip"]


def test_no_recipe_has_a_toy_judge_a_real_model() -> None:
    found = {name: load_recipe(name).notices() for name in recipe_names()}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize("metric", BY_CLIP)
def test_what_no_judge_measures_stops_no_run(metric: str) -> None:
    evaluation = {"clip": None, "early_stopping": metric}
    with pytest.raises(ValidationError, match=f"received '{metric}', which takes a judge"):
        FlowConfig.model_validate({"evaluation": evaluation})
    FlowConfig.model_validate({"evaluation": {"early_stopping": metric}})

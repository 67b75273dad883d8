"""doctor's words on a language model's memory: prompts, unknown models, advice."""

import inspect
from pathlib import Path
from typing import Any

import pytest

from adrpo.config import LanguageConfig, load_recipe
from adrpo.llm.memory.advice import (
    ASSUMED_PROMPT,
    TOKENS_PER_BATCH,
    longest_prompt,
    memory_lines,
)
from adrpo.llm.memory.architecture import find_architecture, read_architecture
from adrpo.llm.memory.estimate import Lengths, cheaper, estimate
from adrpo.llm.memory.published import PUBLISHED
from adrpo.memory import Estimate
from adrpo.rewards.reward_model import RewardModel
from adrpo.runs.published_sizes import FILES
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS


def test_the_embedded_reward_model_is_counted():
    from adrpo.embedded.weights import weights_path
    from adrpo.flow.memory.architectures import count_parameters

    folder = weights_path("language_reward")
    architecture = read_architecture(str(folder), scores=True)
    assert architecture is not None
    assert architecture.parameters == count_parameters(folder)


def test_a_reward_model_is_estimated_with_its_own_defaults():
    signature = inspect.signature(RewardModel)
    assert signature.parameters["tokens_per_batch"].default == TOKENS_PER_BATCH
    assert signature.parameters["dtype"].default == "bfloat16"


def embedded(**sections: dict[str, Any]) -> LanguageConfig:
    config = load_recipe("llm/reward-model")
    assert isinstance(config, LanguageConfig)
    for name, section in sections.items():
        changed = getattr(config, name).model_copy(update=section)
        config = config.model_copy(update={name: changed})
    return config


def test_the_longest_prompt_is_measured_as_it_is_trained_on():
    config = embedded()
    # One token a character.
    assert longest_prompt(config, ["1 + 2 =", "1 + 22 ="]) == len("1 + 22 =")
    assert longest_prompt(config, []) is None
    lines = memory_lines(config, [], None)
    assert f"for prompts of {ASSUMED_PROMPT} tokens (assumed) and 8 more" in lines
    lines = memory_lines(config, ["1 + 22 ="], None)
    assert "for prompts of 8 tokens (the longest here) and 8 more" in lines


def test_a_model_that_is_not_here_is_said_to_be_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    lines = memory_lines(embedded(model={"pretrained": "someone/else"}), [], None)
    assert lines == [
        "unknown: the config.json of someone/else is not on this machine; the first run fetches "
        "it, or: hf download someone/else config.json"
    ]
    config = embedded()
    unknown = config.reward[0].model_copy(update={"options": {"model": "someone/scorer"}})
    lines = memory_lines(config.model_copy(update={"reward": (unknown,)}), [], None)
    assert "not counted, of unknown size: reward_model someone/scorer" in lines
    on_cpu = unknown.model_copy(update={"options": {"model": "someone/scorer", "device": "cpu"}})
    lines = memory_lines(config.model_copy(update={"reward": (on_cpu,)}), [], None)
    assert not any("not counted" in line for line in lines)


def test_published_shapes_are_those_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two bytes a parameter are the files' but for their headers, which are under 64 kB; Qwen3's
    file has the embeddings twice, once as its head."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name, twice in (("Qwen/Qwen2-0.5B-Instruct", False), ("Qwen/Qwen3-0.6B", True)):
        found = read_architecture(name)
        assert found is not None
        count = found.parameters + twice * found.vocabulary * found.width
        assert 0 < FILES[name] - 2 * count < 64_000
    for name, base in (
        # Gemma 2B's number is that of its paper: 1,981,884,416 and 524,550,144 of embeddings, for
        # a vocabulary of 256,128, of which transformers' has 256,000.
        ("weqweasdas/RM-Gemma-2B", 1_981_884_416 + 524_550_144 - 128 * 2048),
        ("Skywork/Skywork-Reward-V2-Qwen3-0.6B", 596_049_920),
    ):
        found = read_architecture(name, scores=True)
        assert found is not None
        # With a number as its output.
        assert found.parameters == base + found.width


def test_our_recipes_are_estimated_before_their_models_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in ("llm/qwen2-0.5b", "llm/qwen3-0.6b"):
        config = load_recipe(name)
        assert isinstance(config, LanguageConfig) and config.model.pretrained in PUBLISHED
        lines = memory_lines(config, [], None)
        assert lines[0].startswith("about ") and not any("not counted" in line for line in lines)


def test_each_advice_is_accepted_and_needs_less():
    """Of a model of Qwen2-0.5B's shape at the paper's settings, without what they save already."""
    settings = ["model.pretrained=embedded", "model.gradient_checkpointing=false"]
    settings += ["model.autocast=null", "evaluation.batch_size=256"]
    config = load_recipe("llm/qwen2-0.5b", settings)
    assert isinstance(config, LanguageConfig)
    architecture = find_architecture(config.model)
    assert architecture is not None
    lengths = Lengths(prompt=256, completion=256)

    def total(changed: LanguageConfig) -> Estimate:
        return estimate(architecture, changed, lengths)

    before = total(config)
    changes = cheaper(config)
    assert len(changes) == 5
    for change, changed in changes:
        after = total(changed)
        assert load_recipe("llm/qwen2-0.5b", [*settings, change.strip("'")]) == changed
        parts = [*before.working.items(), *before.resident.items()]
        lower = {**after.working, **after.resident}
        assert any(lower[part] < size for part, size in parts), change
    lines = memory_lines(config, [], 1.2e9)
    assert "does not fit" in lines[0] and lines[-1].startswith("first set ")

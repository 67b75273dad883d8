"""Malformed models: those of every domain, of rewards, and adapters."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from tools.faults.inputs.adapters import adapter_cases
from tools.faults.inputs.cases import Case, Spoil, both, edited, trained, write
from tools.faults.inputs.language_models import language_cases
from tools.faults.inputs.pipelines import pipeline_cases
from tools.faults.inputs.weights import KIND, weight_files

VALID = {
    ("", "whole numbers as weights"): "read as numbers",
    ("flow", "another type"): "a CLIP by all of its weights, whatever it is called",
    ("flow", "another class"): "a CLIP by all of its weights, whatever it is called",
}
"""Domain, or the empty text for all, and damage of a scorer -> why it may be taken."""


def cases(random: random.Random) -> list[Case]:
    """All of them; ``random`` draws absurd numbers."""
    return [
        *language_cases(random, "llm"),
        *language_cases(random, "audio"),
        *pipeline_cases(random),
        *_judges(),
        *adapter_cases(),
    ]


def _without_words() -> None:
    for name in ("tokenizer", "vocab", "merges", "special"):
        for path in Path("judge").glob(f"{name}*"):
            path.unlink()


def _judges() -> Iterator[Case]:
    """Models of rewards, and of what measures."""

    def shipped(name: str) -> Spoil:
        def act() -> None:
            from adrpo.embedded.weights import weights_path

            shutil.copytree(weights_path(name), "judge")

        return act

    kinds = {
        "flow": ("clip_score", "reward_clip", "flow"),
        "llm": ("reward_model", "language_reward", "llm"),
    }
    spoilt: dict[str, Spoil] = {
        "an empty folder": both(lambda: shutil.rmtree("judge"), lambda: Path("judge").mkdir()),
        "no folder": lambda: shutil.rmtree("judge"),
        "no config": lambda: Path("judge/config.json").unlink(),
        "a broken config": write("judge/config.json", "{"),
        "a config that is a list": write("judge/config.json", "[]"),
        "a config without anything": write("judge/config.json", "{}"),
        "another type": edited("judge/config.json", model_type="no_such"),
        "another class": edited("judge/config.json", model_type="vit"),
        "no tokenizer": _without_words,
        "a broken tokenizer": write("judge/tokenizer.json", "{"),
        **weight_files("judge/model.safetensors"),
    }  # fmt: skip
    for domain, (reward, folder, _) in kinds.items():
        for what, spoil in spoilt.items():
            yield Case(
                KIND, domain, f"reward {reward}, {what}",
                trained(f"reward=[{{name: {reward}, options: {{model: ./judge}}}}]"),
                ["judge", reward], both(shipped(folder), spoil),
                VALID.get((domain, what), VALID.get(("", what), "")),
            )  # fmt: skip
    for what in (
        "no folder",
        "a broken config",
        "weights cut",
        "weights not numbers",
        "no weights",
    ):
        yield Case(
            KIND, "flow", f"evaluation.clip, {what}", trained("evaluation.clip=./judge"),
            ["judge", "evaluation.clip"], both(shipped("evaluation_clip"), spoilt[what]),
        )  # fmt: skip

"""The files of a tiny run of each domain: a recipe, a model, prompts, and the run that it gave."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adrpo.cli.domains import door_of
from adrpo.config import config_to_yaml


def _trained(config: Any) -> None:
    Path("recipe.yaml").write_text(config_to_yaml(config), encoding="utf-8")
    run = door_of(config).build(config).train(Path("run"), progress=False)
    from adrpo.report import write_report

    write_report(run)


def flow() -> None:
    """Pictures by a pipeline of a few thousand parameters."""
    from support.prompt_files import REWARD, texts
    from support.sound_files import write_lines
    from support.tiny_pipelines import stable_diffusion_3
    from support.tiny_runs import tiny_config

    stable_diffusion_3(with_t5=False).save_pretrained("model")
    write_lines(Path("train.jsonl"), texts("a", 4))
    write_lines(Path("test.jsonl"), texts("c", 3))
    config = tiny_config(
        model={"pretrained": "model", "height": 16, "width": 24, "max_sequence_length": 16},
        prompts={"train": "train.jsonl", "held_out": "test.jsonl"},
        training={"steps": 1},
        evaluation={"seen_prompts": 2},
    )
    _trained(type(config).model_validate(config.model_dump(mode="json") | {"reward": REWARD}))


def llm() -> None:
    """Texts, with an adapter."""
    from support.prompt_files import llm as material

    settings = material().model_dump(mode="json")
    settings["adapter"] = {"rank": 2, "alpha": 2, "target_modules": ["q_proj", "v_proj"]}
    _trained(type(material()).model_validate(settings))


def audio() -> None:
    """Answers about sound, and a question set of a benchmark."""
    from support.prompt_files import audio as material

    settings = material().model_dump(mode="json")
    settings["adapter"] = {"rank": 2, "alpha": 2, "target_modules": ["q_proj", "v_proj"]}
    _trained(type(material()).model_validate(settings))
    Path("predictions.jsonl").write_text(json.dumps({"id": "1", "answer": "dog"}) + "\n")


MATERIAL: dict[str, Callable[[], None]] = {"flow": flow, "llm": llm, "audio": audio}

"""A run of each domain on files of a few prompts, by names that hold in their own folder alone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adrpo.cli.domains import door_of
from adrpo.config import FlowConfig, LanguageConfig, config_to_yaml
from adrpo.config.audio import AudioConfig
from support.command_line import Command
from support.sound_files import question, tone, write_clip, write_lines
from support.tiny_audio_runs import tiny_audio_config, write_thinker
from support.tiny_language_model import save_tiny_model
from support.tiny_language_runs import tiny_language_config
from support.tiny_runs import tiny_config

REWARD = [{"name": "support.tiny_runs:of_any_sample"}]
FEW = {"training": {"steps": 1}, "evaluation": {"samples_per_prompt": 2}}

Config = FlowConfig | LanguageConfig | AudioConfig


def texts(first: str, count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"{first} {i % 5} b", "category": first, "answer": i} for i in range(count)]


def flow() -> FlowConfig:
    """Pictures; all files by names that hold in their own folder alone."""
    write_lines(Path("train.jsonl"), texts("a", 4))
    write_lines(Path("test.jsonl"), texts("c", 3))
    sections = {"evaluation": FEW["evaluation"] | {"seen_prompts": 2}, "training": FEW["training"]}
    config = tiny_config(prompts={"train": "train.jsonl", "held_out": "test.jsonl"}, **sections)
    return FlowConfig.model_validate(config.model_dump(mode="json") | {"reward": REWARD})


def llm() -> LanguageConfig:
    save_tiny_model(Path("model"))
    write_lines(Path("train.jsonl"), texts("a", 4))
    write_lines(Path("test.jsonl"), texts("c", 3))
    prompts = {"source": "train.jsonl", "held_out": "test.jsonl"}
    config = tiny_language_config(Path(), prompts=prompts, **FEW).model_dump(mode="json")
    config["model"]["pretrained"] = "model"
    return LanguageConfig.model_validate(config | {"reward": REWARD})


def audio() -> AudioConfig:
    write_thinker(Path("model"))
    for place in range(7):
        write_clip(Path(f"clips/{place}.wav"), tone(200 + 40 * place))
    write_lines(Path("train.jsonl"), [question(place) for place in range(4)])
    write_lines(Path("test.jsonl"), [question(place) for place in range(4, 7)])
    prompts = {"source": "train.jsonl", "held_out": "test.jsonl"}
    return tiny_audio_config(Path("model"), prompts=prompts, **FEW)


DOMAINS: dict[str, Callable[[], Config]] = {"flow": flow, "llm": llm, "audio": audio}


@pytest.fixture(scope="module", params=DOMAINS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with material, recipe.yaml and the run that it gave."""
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = DOMAINS[request.param]()
        Path("recipe.yaml").write_text(config_to_yaml(config), encoding="utf-8")
        train(config, Path("run"))
    return folder


@pytest.fixture
def place(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of ``trained`` to spoil, which is the working folder."""
    shutil.copytree(trained, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def train(config: Config, folder: Path, **options: Any) -> None:
    door_of(config).build(config).train(folder, progress=False, **options)


def edit(path: str, number: int, **changed: Any) -> None:
    """Change the columns of a line; of "text" the one with the words of the prompt."""
    rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    if "text" in changed:
        changed["prompt" if "prompt" in rows[0] else "question"] = changed.pop("text")
    rows[number] |= changed
    write_lines(Path(path), rows)


def refused(adrpo: Command, *words: str) -> None:
    """One line tells the error, beside notes that the command gives."""
    lines = [line for line in adrpo.err.splitlines() if not line.startswith("adrpo: note: ")]
    assert len(lines) == 1 and lines[0].startswith("adrpo: error: "), adrpo.err
    for word in words:
        assert word in lines[0]

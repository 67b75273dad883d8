"""Mistakes in data and settings: one line each, and no folder that blocks the corrected retry."""

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from adrpo.errors import AdrpoError
from adrpo.llm import ADRPOTrainer
from support.command_line import Command
from support.prompt_files import place, trained
from support.sound_files import write_lines
from support.tiny_language_trainers import LANGUAGE_MARKS, config, count_a

pytestmark = LANGUAGE_MARKS

__all__ = ["place", "trained"]

SOURCES = {"flow": "train", "llm": "source", "audio": "source"}


@pytest.fixture
def adrpo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def domain(place: Path) -> str:
    (named,) = (name for name in SOURCES if f"domain: {name}" in Path("recipe.yaml").read_text())
    return named


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("train.jsonl").read_text("utf-8").splitlines()]


def train(adrpo: Command, *settings: str) -> int:
    return adrpo("train", "recipe.yaml", *settings, "--output-dir", "new")


def told(adrpo: Command, *words: str) -> None:
    """A line is all that is left; what transformers prints of loading is not ours."""
    (line,) = (line for line in adrpo.err.splitlines() if line.startswith("adrpo: error: "))
    for word in words:
        assert word in line, line
    assert not Path("new").exists()


def test_an_adapter_is_no_model(place: Path, adrpo: Command):
    Path("peft").mkdir()
    written = {"base_model_name_or_path": "some/base", "peft_type": "LORA"}
    Path("peft/adapter_config.json").write_text(json.dumps(written), encoding="utf-8")
    assert train(adrpo, "model.pretrained=./peft") == 2
    told(adrpo, "model.pretrained", "an adapter of some/base", "--lora")


def test_a_data_set_that_cant_be_put_together_is_told(place: Path, adrpo: Command):
    """Of files with other columns; not an OSError, as what is missing."""
    Path("mixed").mkdir()
    for name in ("note", "other"):
        Path(f"mixed/train-{name}.csv").write_text(f"prompt,{name}\na b,1\n", encoding="utf-8")
    assert train(adrpo, f"prompts.{SOURCES[domain(place)]}=./mixed") == 2
    told(adrpo, "./mixed", ".jsonl")


def test_a_prompt_beyond_the_context_leaves_no_folder(place: Path, adrpo: Command):
    """Found where TRL reads the prompts, the run's folder there already."""
    if domain(place) == "flow":
        pytest.skip("encoders cut a prompt")
    long = rows()
    key = "prompt" if "prompt" in long[2] else "question"
    long[2][key] = "a " * 40_000
    write_lines(Path("long.jsonl"), long)
    assert train(adrpo, "prompts.source=long.jsonl") == 2
    told(adrpo, "context", "'a a a")
    assert train(adrpo) == 0, adrpo.err


def test_a_reward_of_pictures_leaves_no_folder(place: Path, adrpo: Command):
    if domain(place) == "flow":
        pytest.skip("a reward of pictures is at home there")
    assert train(adrpo, "reward=[{name: jpeg_size}]") == 2
    told(adrpo, "jpeg_size", "images")


def test_a_completion_as_long_as_the_context_is_refused(place: Path, adrpo: Command):
    if domain(place) == "flow":
        pytest.skip("pictures have no length")
    assert train(adrpo, "generation.max_completion_length=1000000") == 2
    told(adrpo, "generation.max_completion_length", "context")
    assert adrpo("doctor", "recipe.yaml", "generation.max_completion_length=1000000") == 1
    assert "BROKEN  model: generation.max_completion_length" in adrpo.out


def test_a_picture_beyond_the_table_of_positions_is_refused(place: Path, adrpo: Command):
    if domain(place) != "flow":
        pytest.skip("texts have no height")
    assert train(adrpo, "model.height=4096") == 2
    told(adrpo, "model.height: expected at most", "positions")


@pytest.mark.parametrize("name", ["completions", "prompts", "image", "images"])
def test_a_column_by_a_name_that_is_taken_is_told_to_scripts(tmp_path: Path, name: str):
    from support.tiny_language_model import save_tiny_model

    data = Dataset.from_list([{"prompt": "a b", name: "c"}] * 4)
    model: Any = str(save_tiny_model(tmp_path / "model"))
    with pytest.raises(AdrpoError, match=f"train_dataset: .*column '{name}'.*rename it"):
        ADRPOTrainer(model, count_a, config(tmp_path / "out"), data)


def test_messages_of_mixed_types_are_told(place: Path, adrpo: Command):
    if domain(place) != "llm":
        pytest.skip("texts")
    values = [1, "x", 2.5, None]
    chats = [{"prompt": [{"role": "user", "content": "a b", "weight": value}]} for value in values]
    write_lines(Path("chats.jsonl"), chats)
    assert train(adrpo, "prompts.source=chats.jsonl") == 2
    told(adrpo, "keys beside role and content")

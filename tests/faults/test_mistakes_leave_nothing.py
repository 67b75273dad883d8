"""Mistakes in data and settings: one line each, and no folder that blocks the corrected retry."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from safetensors.torch import load_file, save_file

from adrpo.embedded.weights import weights_path
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


def model(place: Path) -> Path:
    """The folder of the model, a copy of the embedded one for pictures."""
    if domain(place) == "flow":
        shutil.copytree(weights_path("pipeline"), "model")
    return Path("model")


def changed_weights(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def test_a_model_that_lacks_weights_is_refused(place: Path, adrpo: Command):
    """Libraries draw them, and say so in a log alone."""
    (file, *_) = sorted(model(place).glob("transformer/*.safetensors")) or [
        Path("model/model.safetensors")
    ]
    changed_weights(file, lambda found: dict(sorted(found.items())[1:]))
    assert train(adrpo, "model.pretrained=model") == 2
    told(adrpo, "model.pretrained", "there are none for 1 of its tensors")
    assert adrpo("doctor", "recipe.yaml", "model.pretrained=model", "--try") == 2
    told(adrpo, "there are none for 1 of its tensors")


def test_an_encoder_that_lacks_weights_is_refused(place: Path, adrpo: Command):
    if domain(place) != "flow":
        pytest.skip("pictures have encoders")
    (file, *_) = sorted(model(place).glob("text_encoder/*.safetensors"))
    changed_weights(file, lambda found: dict(sorted(found.items())[1:]))
    assert train(adrpo, "model.pretrained=model") == 2
    told(adrpo, "model.pretrained", "there are none for 1 of its tensors")


def test_a_table_smaller_than_the_tokenizer_is_refused(place: Path, adrpo: Command):
    """A processor would end in an error of an index, in the middle of a step."""
    if domain(place) == "flow":
        pytest.skip("the encoders of pictures are held by naming_the_model")
    path = Path("model/config.json")
    config = json.loads(path.read_text(encoding="utf-8"))
    config.get("text_config", config)["vocab_size"] = 6
    path.write_text(json.dumps(config), encoding="utf-8")
    changed_weights(
        Path("model/model.safetensors"),
        lambda found: {
            name: value[:6].clone() if "embed_tokens" in name or "lm_head" in name else value
            for name, value in found.items()
        },
    )
    assert train(adrpo) == 2
    told(adrpo, "model.pretrained", "tokenizer")


def test_a_folder_without_a_tokenizer_is_refused(place: Path, adrpo: Command):
    """transformers makes an empty one."""
    if domain(place) == "flow":
        pytest.skip("diffusers wants all of its parts")
    for path in Path("model").glob("tokenizer*"):
        path.unlink()
    assert train(adrpo) == 2
    told(adrpo, "model")


def test_fewer_prompts_than_a_step_takes_are_refused(place: Path, adrpo: Command):
    """TRL would train no step, and the run's report end in an error."""
    if domain(place) == "flow":
        pytest.skip("pictures take a prompt several times")
    write_lines(Path("few.jsonl"), rows()[:1])
    assert train(adrpo, "prompts.source=few.jsonl") == 2
    told(adrpo, "training.prompts_per_step", "received 1 from few.jsonl")


def test_an_error_of_a_library_is_a_line_with_the_traceback_in_a_file(place: Path, adrpo: Command):
    """Of a class that nothing of ours names: RuntimeError."""
    Path("set").mkdir()
    Path("set/train.jsonl").touch()
    assert train(adrpo, f"prompts.{SOURCES[domain(place)]}=./set") == 2
    told(adrpo, "./set: expected a data set", ".jsonl file; traceback in adrpo-traceback-")
    (file,) = Path().glob("adrpo-traceback-*")
    assert "Traceback" in file.read_text(encoding="utf-8") and str(file) in adrpo.err


def test_a_folder_around_the_working_one_is_no_data_set(place: Path, adrpo: Command):
    """To look through all of a disk takes hours."""
    assert train(adrpo, f"prompts.{SOURCES[domain(place)]}=../..") == 2
    told(adrpo, "../..", "working folder")


def test_a_rewards_module_that_is_broken_is_a_line(place: Path, adrpo: Command):
    Path("mine.py").write_text("def score(:\n", encoding="utf-8")
    assert train(adrpo, "reward=[{name: 'mine:score'}]") == 2
    told(adrpo, "mine:score", "SyntaxError")

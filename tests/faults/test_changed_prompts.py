"""A run is its prompts, not the name of their file: others under that name are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from adrpo.cli.domains import door_of
from adrpo.config import FlowConfig, LanguageConfig, config_to_yaml
from adrpo.config.audio import AudioConfig
from adrpo.errors import AdrpoError, AdrpoWarning
from support.command_line import Command
from support.sound_files import question, tone, write_clip, write_lines
from support.tiny_audio_runs import tiny_audio_config, write_thinker
from support.tiny_language_model import save_tiny_model
from support.tiny_language_runs import tiny_language_config
from support.tiny_language_trainers import LANGUAGE_MARKS
from support.tiny_runs import tiny_config

pytestmark = LANGUAGE_MARKS

REWARD = [{"name": "support.tiny_runs:of_any_sample"}]
FEW = {"training": {"steps": 1}, "evaluation": {"samples_per_prompt": 2}}

Config = FlowConfig | LanguageConfig | AudioConfig


@pytest.fixture
def adrpo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


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


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def resume(adrpo: Command) -> int:
    return adrpo("train", "recipe.yaml", "--output-dir", "run", "--resume")


def refused(adrpo: Command, *words: str) -> None:
    assert adrpo.err.count("\n") == 1, adrpo.err
    for word in words:
        assert word in adrpo.err


def test_prompts_that_changed_are_refused_and_named(place: Path, adrpo: Command):
    before = files(Path("run"))
    edit("train.jsonl", 2, text="a d e")
    assert resume(adrpo) == 2
    refused(adrpo, "--resume", "1 of 4 prompts of training", "a d e", "--output-dir")
    assert files(Path("run")) == before


def test_a_column_that_rewards_see_is_part_of_a_prompt(place: Path, adrpo: Command):
    """Two of three held-out prompts have another column, and the same words."""
    before = files(Path("run"))
    for number in (1, 2):
        edit("test.jsonl", number, note=f"seen {number}")
    edit("test.jsonl", 0, note=None)
    assert resume(adrpo) == 2
    refused(adrpo, "3 of 3 held-out prompts")
    assert files(Path("run")) == before


def test_another_sound_under_the_name_of_a_clip_is_refused(place: Path, adrpo: Command):
    if not Path("clips").is_dir():
        pytest.skip("prompts without clips")
    write_clip(Path("clips/3.wav"), tone(1000))
    assert resume(adrpo) == 2
    refused(adrpo, "1 of 4 prompts of training", "heard in 3")


def test_the_order_is_told_apart_from_the_prompts(place: Path, adrpo: Command):
    lines = Path("train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    if Path("clips").is_dir():
        pytest.skip("choices are shuffled by their places")
    Path("train.jsonl").write_text("".join(lines[::-1]), encoding="utf-8")
    assert resume(adrpo) == 2
    refused(adrpo, "the 4 prompts of training", "in their order")


def test_a_base_on_other_prompts_is_refused(place: Path, adrpo: Command):
    edit("test.jsonl", 0, text="f d e")
    call = ("train", "recipe.yaml", "--output-dir", "new", "--base", "run")
    assert adrpo(*call) == 2
    refused(adrpo, "--base", "1 of 3 held-out prompts", "f d e")
    assert not Path("new").exists()


def test_what_is_trained_on_may_differ_where_a_base_has_not_seen_it(place: Path, adrpo: Command):
    """Of the base's evaluation only what it evaluates is taken over."""
    edit("train.jsonl", 3, text="a d e")
    assert adrpo("train", "recipe.yaml", "--output-dir", "new", "--base", "run") == 0
    if "seen" in Path("new/evaluations.jsonl").read_text(encoding="utf-8").split('"unseen"')[0]:
        edit("train.jsonl", 0, text="b d e")
        assert adrpo("train", "recipe.yaml", "--output-dir", "other", "--base", "run") == 2
        refused(adrpo, "1 of 2 prompts of training")


def test_a_run_that_kept_no_prompts_goes_on_and_says_so(place: Path):
    """As runs of earlier versions; from here on it keeps them."""
    config = yaml.safe_load(Path("recipe.yaml").read_text(encoding="utf-8"))
    loaded = {"flow": FlowConfig, "llm": LanguageConfig, "audio": AudioConfig}[config["domain"]]
    Path("run/inputs.json").unlink()
    edit("train.jsonl", 2, text="a d e")
    with pytest.warns(AdrpoWarning, match="kept no record"):
        train(loaded.model_validate(config), Path("run"), resume=True)
    edit("train.jsonl", 2, text="a e e")
    with pytest.raises(AdrpoError, match="1 of 4 prompts of training"):
        train(loaded.model_validate(config), Path("run"), resume=True)


def test_a_run_is_evaluated_on_its_own_prompts_from_anywhere(
    place: Path, adrpo: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """From another folder, where its names mean nothing or something else, and after its files of
    prompts have changed."""
    assert adrpo("evaluate", "run", "--output-dir", str(tmp_path / "here")) == 0
    monkeypatch.chdir(tmp_path)
    write_lines(Path("test.jsonl"), texts("f", 3))
    (place / "test.jsonl").unlink()
    assert adrpo("evaluate", str(place / "run"), "--output-dir", "there") == 0, adrpo.err

    def rows(folder: str) -> list[dict[str, Any]]:
        lines = (tmp_path / folder / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) | {"target": ""} for line in lines]

    assert rows("here") == rows("there")

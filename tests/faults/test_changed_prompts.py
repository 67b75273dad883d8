"""A run is its prompts, not the name of their file: others under that name are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from adrpo.cli.domains import door_of
from adrpo.config import FlowConfig, LanguageConfig
from adrpo.config.audio import AudioConfig
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.evaluation.targets import Target
from support.command_line import Command
from support.prompt_files import edit, place, refused, texts, train, trained
from support.sound_files import tone, write_clip, write_lines
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS

__all__ = ["place", "trained"]


@pytest.fixture
def adrpo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def resume(adrpo: Command) -> int:
    return adrpo("train", "recipe.yaml", "--output-dir", "run", "--resume")


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
    write_clip(Path("clips/3.wav"), tone(200 + 40 * 3))
    write_clip(Path("clips/5.wav"), tone(1000))
    assert resume(adrpo) == 2
    refused(adrpo, "1 of 3 held-out prompts", "heard in 5")


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
    # Earlier versions kept no checksums either.
    for name in ("inputs.json", "manifest.json"):
        Path("run", name).unlink()
    edit("train.jsonl", 2, text="a d e")
    with (
        pytest.warns(AdrpoWarning, match="has no manifest.json"),
        pytest.warns(AdrpoWarning, match="kept no record"),
    ):
        train(loaded.model_validate(config), Path("run"), resume=True)
    edit("train.jsonl", 2, text="a e e")
    with pytest.raises(AdrpoError, match="1 of 4 prompts of training"):
        train(loaded.model_validate(config), Path("run"), resume=True)


def test_a_run_is_evaluated_on_its_own_prompts_from_anywhere(
    place: Path,
    trained: Path,
    adrpo: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
):
    """From another folder, where its names mean nothing or something else, and after its files of
    prompts have changed."""
    assert adrpo("evaluate", "run", "--output-dir", str(tmp_path / "here")) == 0
    monkeypatch.chdir(tmp_path)
    write_lines(Path("test.jsonl"), texts("f", 3))
    (place / "test.jsonl").unlink()
    # The folder where it was trained, whose name the run keeps.
    away = (trained / "test.jsonl").rename(trained / "away.jsonl")
    request.addfinalizer(lambda: away.exists() and away.rename(trained / "test.jsonl"))
    assert adrpo("evaluate", str(place / "run"), "--output-dir", "there") == 0, adrpo.err
    # It is asked its own prompts, too, and a user's own in their form.
    assert adrpo("sample", str(place / "run"), "--size", "2") == 0, adrpo.err
    kept = (place / "run" / "held_out.jsonl").read_text(encoding="utf-8").splitlines()
    for content in [json.loads(line)["content"] for line in kept[:2]]:
        assert (content if isinstance(content, str) else content[-1]["content"]) in adrpo.out
    assert adrpo("sample", str(place / "run"), "--prompt", "a b") == 0, adrpo.err

    def rows(folder: str) -> list[dict[str, Any]]:
        lines = (tmp_path / folder / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) | {"target": ""} for line in lines]

    assert rows("here") == rows("there")
    # Their names, too: words that a model doesn't know give the same images.
    shown = [tmp_path / folder / "samples" / "prompts.json" for folder in ("here", "there")]
    assert len({path.read_text(encoding="utf-8") for path in shown}) == 1
    # What the user names is read from here, and the run's own prompts are then none of its.
    away.rename(trained / "test.jsonl")
    chosen = "prompts.held_out=test.jsonl"
    target = Target.resolve(str(place / "run"), door_of, overrides=[chosen])
    assert (target.config.prompts.held_out, target.held_out) == ("test.jsonl", None)

"""Held-out prompts that are trained on are no unseen ones, whatever their source is called."""

import json
import shutil
from pathlib import Path

import pytest

from support.command_line import Command
from support.prompt_files import place, refused, trained
from support.sound_files import write_lines
from support.tiny_language_trainers import LANGUAGE_MARKS

# In a test a warning is an error, unless it is what the command prints.
pytestmark = [
    *LANGUAGE_MARKS,
    pytest.mark.filterwarnings("always::adrpo.errors.AdrpoWarning"),
]

__all__ = ["place", "trained"]


@pytest.fixture
def adrpo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()


def test_a_copy_of_the_training_file_is_not_held_out(place: Path, adrpo: Command):
    shutil.copyfile("train.jsonl", "test.jsonl")
    assert adrpo("train", "recipe.yaml", "--output-dir", "new") == 2
    refused(adrpo, "prompts.held_out", "4 of 4")
    assert not Path("new").exists()


def test_a_few_shared_prompts_are_counted_and_the_first_is_named(place: Path, adrpo: Command):
    """Also where case and spaces differ, or the columns beside them."""
    rows = [json.loads(line) for line in lines("train.jsonl")[1:3]]
    for row in rows:
        name = "prompt" if "prompt" in row else "question"
        row[name] = f"  {row[name].upper()} "
        row["note"] = "another"
    write_lines(Path("test.jsonl"), [*map(json.loads, lines("test.jsonl")), *rows])
    assert adrpo("train", "recipe.yaml", "--output-dir", "new") == 2
    first = rows[0].get("prompt", rows[0].get("question")).strip()
    refused(adrpo, "2 of 5", first)
    assert not Path("new").exists()


def test_a_question_about_another_sound_is_another_question(place: Path, adrpo: Command):
    if not Path("clips").is_dir():
        pytest.skip("prompts without clips")
    train, test = (list(map(json.loads, lines(f"{name}.jsonl"))) for name in ("train", "test"))
    same = [ours | {"audio": theirs["audio"]} for ours, theirs in zip(train, test, strict=False)]
    write_lines(Path("test.jsonl"), same)
    assert adrpo("doctor", "recipe.yaml") == 0, adrpo.out
    assert adrpo("train", "recipe.yaml", "--output-dir", "new") == 0, adrpo.err


def test_a_run_that_began_so_goes_on_and_says_so(
    place: Path, adrpo: Command, monkeypatch: pytest.MonkeyPatch
):
    """Earlier versions let it begin: its evaluations stay as they are called."""
    shutil.copyfile("train.jsonl", "test.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr("adrpo.data.identity.in_common", lambda *_: [])
        assert adrpo("train", "recipe.yaml", "--output-dir", "new") == 0
    assert adrpo("train", "recipe.yaml", "--output-dir", "new", "--resume") == 0
    assert "note: prompts.held_out: 4 of 4" in adrpo.err


def test_an_evaluation_says_how_many_prompts_were_trained_on(place: Path, adrpo: Command):
    rows = [json.loads(line) for line in (*lines("train.jsonl")[:1], *lines("test.jsonl"))]
    write_lines(Path("mixed.jsonl"), rows)
    call = ("evaluate", "run", "--prompts", "mixed.jsonl", "--output-dir", "new")
    assert adrpo(*call) == 0, adrpo.err
    assert "1 of 4 prompts" in adrpo.err and "trained on" in adrpo.err
    # Nor are they called unseen.
    assert {json.loads(row)["split"] for row in lines("new/evaluations.jsonl")} == {"seen"}
    # Of none there is nothing to say.
    assert adrpo("evaluate", "run", "--prompts", "test.jsonl", "--output-dir", "other") == 0
    assert "trained on" not in adrpo.err
    assert {json.loads(row)["split"] for row in lines("other/evaluations.jsonl")} == {"unseen"}


def test_doctor_finds_them(place: Path, adrpo: Command):
    assert adrpo("doctor", "recipe.yaml") == 0, adrpo.out
    shutil.copyfile("train.jsonl", "test.jsonl")
    assert adrpo("doctor", "recipe.yaml") == 1
    assert "BROKEN  prompts" in adrpo.out and "4 of 4" in adrpo.out

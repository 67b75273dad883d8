"""A language model's run that stops anywhere and is resumed ends as if it had never stopped."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from adrpo.config import LanguageConfig, load_recipe
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.llm.run import LanguageRun
from adrpo.runs.checkpoints import intact_checkpoint
from adrpo.runs.directory import RunDirectory
from support.damage import DAMAGES, delete, flip
from support.disk_operations import Killed, kill_at, renamed_when_synced
from support.tiny_language_runs import metrics_without_timings, tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS

EPOCH = 2
"""Steps that see every prompt once."""


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


def config(material: Path, steps: int, **sections: dict[str, Any]) -> LanguageConfig:
    """Two steps an epoch, and a checkpoint after each step."""
    settings: dict[str, Any] = {
        "prompts": {"train_size": 8},
        "training": {"steps": steps},
        "checkpoint": {"every": 1, "keep": 20},
        "evaluation": {"every": 2, "samples_per_prompt": 2},
    }
    for name, section in sections.items():
        settings[name] = settings.get(name, {}) | section
    return tiny_language_config(material, **settings)


def train(settings: LanguageConfig, folder: Path, **options: Any) -> Path:
    return LanguageRun(settings).train(folder, progress=False, **options)


def weights(run: Path) -> bytes:
    return (run / "final/model.safetensors").read_bytes()


def card(run: Path) -> bytes:
    return (run / "final/README.md").read_bytes()


def files(run: Path) -> dict[str, bytes]:
    """Everything that a run has written, but for transformers' arguments, which name its folder."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and path.name not in ("training_args.bin", "manifest.json")
    }


@pytest.fixture(scope="module")
def whole(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(config(material, 5), tmp_path_factory.mktemp("whole") / "run")


def assert_same(run: Path, expected: Path) -> None:
    assert metrics_without_timings(run) == metrics_without_timings(expected)
    evaluations = (run / "evaluations.jsonl").read_text(encoding="utf-8")
    assert evaluations == (expected / "evaluations.jsonl").read_text(encoding="utf-8")
    assert weights(run) == weights(expected)
    assert card(run) == card(expected) and b"with the method adrpo" in card(run)


@pytest.mark.parametrize("step", [1, EPOCH, EPOCH + 1, 2 * EPOCH])
def test_prompts_come_in_their_order_in_every_epoch(
    material: Path, whole: Path, tmp_path: Path, step: int
):
    """As after a kill in step ``step`` + 1: within an epoch, at its end, and in a later one."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    shutil.rmtree(run / "final")
    for later in range(step + 1, 6):
        shutil.rmtree(run / f"checkpoints/checkpoint-{later}")
    train(config(material, 5), run, resume=True)
    assert_same(run, whole)


def test_a_finished_run_stays_as_it_is(material: Path, whole: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    before = files(run)
    train(config(material, 5), run, resume=True)
    assert files(run) == before


def test_what_a_finished_run_lacks_is_written(material: Path, whole: Path, tmp_path: Path):
    """As after a kill while the model was saved: no step is trained again, or beyond the last."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    before = files(run)
    shutil.rmtree(run / "final")
    train(config(material, 5), run, resume=True)
    assert files(run) == before


NAMED = ((os, "replace"), (Path, "mkdir"), (shutil, "rmtree"))


def test_a_kill_after_the_last_step_changes_nothing(material: Path, whole: Path, tmp_path: Path):
    """At each disk operation by which final/ is made."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    before = files(run)
    call, finished = 0, False
    while not finished:
        call += 1
        shutil.rmtree(run / "final")
        with pytest.MonkeyPatch.context() as patch:
            kill_at(call, patch, NAMED)
            try:
                train(config(material, 5), run, resume=True)
                finished = True
            except Killed:
                pass
        train(config(material, 5), run, resume=True)
        assert files(run) == before, f"killed at call {call}"
    assert call > len(NAMED)


def test_damage_to_any_file_of_a_checkpoint_is_named_and_the_one_before_is_used(
    whole: Path, tmp_path: Path
):
    run = RunDirectory(tmp_path / "run")
    shutil.copytree(whole, run.path)
    last = run.checkpoints / "checkpoint-5"
    names = [path.name for path in sorted(last.iterdir())]
    expected = {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"}
    assert {*expected, "trainer_state.json", "adrpo_state.json", "manifest.json"} <= {*names}
    for name in names:
        for kind, damage in DAMAGES.items():
            kept = (last / name).read_bytes()
            damage(last / name)
            with pytest.warns(AdrpoWarning) as told:
                assert intact_checkpoint(run) == run.checkpoints / "checkpoint-4", (name, kind)
            (line,) = (str(note.message) for note in told)
            # A sum that was flipped is no longer that of its file.
            assert name in line or name == "manifest.json"
            assert "checkpoint-5" in line and line.endswith("going on from checkpoint-4 instead")
            (last / name).write_bytes(kept)


def test_a_run_goes_on_before_its_damaged_checkpoints_to_the_same_end(
    material: Path, whole: Path, tmp_path: Path
):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    shutil.rmtree(run / "final")
    flip(run / "checkpoints/checkpoint-5/optimizer.pt")
    delete(run / "checkpoints/checkpoint-4/rng_state.pth")
    with pytest.warns(AdrpoWarning, match="going on from checkpoint-3"):
        train(config(material, 5), run, resume=True)
    assert_same(run, whole)

    shutil.rmtree(run / "final")
    for checkpoint in (run / "checkpoints").glob("checkpoint-*"):
        flip(checkpoint / "scheduler.pt")
    left = files(run)
    with pytest.raises(
        AdrpoError, match=r"checkpoint-5/scheduler\.pt: expected sha256 .* no other"
    ):
        train(config(material, 5), run, resume=True)
    assert files(run) == left


def test_a_checkpoint_of_an_earlier_version_is_taken_and_said(whole: Path, tmp_path: Path):
    run = RunDirectory(tmp_path / "run")
    shutil.copytree(whole, run.path)
    last = run.checkpoints / "checkpoint-5"
    (last / "manifest.json").unlink()
    state = json.loads((last / "adrpo_state.json").read_text())
    del state["sealed"]
    (last / "adrpo_state.json").write_text(json.dumps(state))
    with pytest.warns(AdrpoWarning, match="checkpoint-5 is of an earlier version"):
        assert intact_checkpoint(run) == last


def test_what_is_renamed_is_on_disk(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with renamed_when_synced(monkeypatch) as renamed:
        train(config(material, 2), tmp_path / "run")
    # Two checkpoints and final/ by their manifests, and final/ itself.
    assert renamed.count(".manifest.json.partial") >= 3
    assert ".final.partial" in renamed


def test_a_run_at_a_constant_rate_is_extended(material: Path, whole: Path, tmp_path: Path):
    """Three steps and then two more, across the end of an epoch, are five."""
    run = train(config(material, 3), tmp_path / "run")
    train(config(material, 5), run, resume=True)
    assert metrics_without_timings(run) == metrics_without_timings(whole)
    assert weights(run) == weights(whole)
    # Training from its configuration repeats the run, as of any other.
    assert load_recipe(run / "config.yaml") == config(material, 5)
    with pytest.raises(AdrpoError, match=r"training\.steps of at least 5, .* received 3"):
        train(config(material, 3), run, resume=True)


def test_a_run_with_a_falling_rate_is_not_extended(material: Path, tmp_path: Path):
    falling = {"learning_rate_schedule": "cosine"}
    run = train(config(material, 2, training=falling | {"steps": 2}), tmp_path / "run")
    before = files(run)
    with pytest.raises(AdrpoError, match=r"training\.steps=2.*3"):
        train(config(material, 3, training=falling | {"steps": 3}), run, resume=True)
    assert files(run) == before


def test_a_resumed_run_is_saved_as_often_as_it_is_asked_for(
    material: Path, whole: Path, tmp_path: Path
):
    """How often may change; the checkpoint that it goes on from remembers another number."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    shutil.rmtree(run / "final")
    for later in range(2, 6):
        shutil.rmtree(run / f"checkpoints/checkpoint-{later}")
    train(config(material, 5, checkpoint={"every": 3}), run, resume=True)
    names = {path.name for path in (run / "checkpoints").iterdir() if path.is_dir()}
    assert names == {"checkpoint-1", "checkpoint-3", "checkpoint-5"}
    assert weights(run) == weights(whole)

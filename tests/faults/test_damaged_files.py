"""Files of a run that a report or an interval rests on: damage is named, a kill is none."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from adrpo.cli.domains import door_of
from adrpo.comparison.collect import read_method
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.evaluation.targets import Target
from adrpo.evaluation.values import values_path, write_values
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.llm.run import LanguageRun
from adrpo.report.page import write_report
from adrpo.report.result import result_lines
from adrpo.runs import manifest
from adrpo.runs.base_evaluation import adopt_base_evaluation, check_base_evaluation
from adrpo.runs.directory import RunDirectory
from adrpo.runs.record import check_resumed, faults, forget_after, forget_evaluation, note
from support.damage import DAMAGES, delete, empty, flip, halve
from support.disk_operations import Killed, kill_at
from support.tiny_language_runs import tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS
from support.tiny_runs import tiny_config

pytestmark = LANGUAGE_MARKS


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="module")
def image_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config(training={"steps": 2}, evaluation={"every": 1})
    return FlowTrainer(config).train(tmp_path_factory.mktemp("image") / "run", progress=False)


@pytest.fixture(scope="module")
def language_run(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_language_config(material, training={"steps": 2}, evaluation={"every": 1})
    folder = tmp_path_factory.mktemp("language") / "run"
    return LanguageRun(config).train(folder, progress=False)


@pytest.fixture(params=["image", "language"])
def whole(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(f"{request.param}_run")


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> RunDirectory:
    shutil.copytree(whole, tmp_path / "run")
    return RunDirectory.open(tmp_path / "run")


def told(run: RunDirectory) -> list[str]:
    return [fault.path.relative_to(run.path).as_posix() for fault in faults(run)]


def test_damage_to_every_file_that_a_result_rests_on_is_found(run: RunDirectory):
    assert told(run) == []
    apart = ("checkpoints", "final", "manifest.json", "report.html")
    paths = sorted(path for path in run.path.rglob("*") if path.is_file())
    names = [path.relative_to(run.path).as_posix() for path in paths]
    names = [name for name in names if not name.startswith(apart) or name == "final.safetensors"]
    for name in ("metrics.jsonl", "evaluations.jsonl", "samples/prompts.json", "inputs.json"):
        assert name in names
    assert any("values" in name for name in names) and any("samples/base" in name for name in names)
    for name in names:
        kept = (run.path / name).read_bytes()
        for damage in DAMAGES.values():
            damage(run.path / name)
            assert told(run) == [name]
            (run.path / name).write_bytes(kept)
    # Rows that were added since are no damage.
    run.append_metrics({"step": 9})
    run.append_evaluation({"step": 9})
    assert told(run) == []


def test_the_page_says_what_is_damaged(run: RunDirectory):
    clean = write_report(run.path).read_text()
    halve(run.evaluations)
    run.evaluations.write_bytes(run.evaluations.read_bytes().rpartition(b"\n")[0] + b"\n")
    delete(values_path(run, 0))
    page, lines = write_report(run.path).read_text(), "\n".join(result_lines(run.path))
    for said in ("evaluations.jsonl has ", "samples/step-000000/values.json is missing"):
        assert said in page and said in lines
        assert said not in clean


def test_the_page_says_which_weights_are_missing(run: RunDirectory):
    """The snippet that loads them was left out without a word."""
    clean = write_report(run.path).read_text()
    (weights,) = run.final.glob("*.safetensors")
    weights.unlink()
    page, lines = write_report(run.path).read_text(), "\n".join(result_lines(run.path))
    said = f"final/{weights.name} is missing"
    assert said in page and said in lines and said not in clean
    (run.final / "manifest.json").write_text("{")
    assert "final/manifest.json: expected JSON" in "\n".join(result_lines(run.path))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("evaluations.jsonl", empty),
        ("metrics.jsonl", delete),
        ("samples/step-000000/values.json", flip),
        ("samples/prompts.json", halve),
        ("inputs.json", delete),
    ],
)
def test_what_rests_on_a_damaged_file_is_refused(
    run: RunDirectory, name: str, damage: Callable[[Path], None]
):
    damage(run.path / name)
    with pytest.raises(AdrpoError, match=f"--resume: .*{name}: expected .*; restore it") as caught:
        check_resumed(run)
    assert "\n" not in str(caught.value)
    if name != "inputs.json":
        settings = {"evaluation": {}, "training": {}}
        with pytest.raises(AdrpoError, match=f"{name}: expected"):
            read_method("run", settings, [run.path])
    else:
        with pytest.raises(AdrpoError, match=f"{name}: expected"):
            Target.resolve(str(run.path), door_of)


@pytest.mark.parametrize("name", ["metrics.jsonl", "evaluations.jsonl"])
def test_rows_that_tell_the_step_of_the_weights_are_checked(run: RunDirectory, name: str):
    """Half of them would name an earlier step of the same weights."""
    halve(run.path / name)
    with pytest.raises(AdrpoError, match=f"{name}: expected the file as the run wrote it"):
        Target.resolve(str(run.path), door_of)


def test_samples_that_are_only_shown_are_missed_aloud(run: RunDirectory):
    shown = min([*run.samples.rglob("*.png"), *run.samples.rglob("base.jsonl")])
    shown.unlink()
    with pytest.warns(AdrpoWarning, match=rf"--resume: .*{shown.name} is missing; no number"):
        check_resumed(run)


def test_a_damaged_record_is_named_and_one_that_is_gone_is_said(run: RunDirectory):
    record = run.path / "manifest.json"
    flip(record)
    for use in (check_resumed, told):
        with pytest.raises(AdrpoError, match=r"manifest\.json: expected"):
            use(run)
    record.unlink()
    with pytest.warns(AdrpoWarning, match=r"has no manifest\.json"):
        check_resumed(run)


def test_changed_settings_of_a_run_that_is_asked_are_said(run: RunDirectory):
    text = run.config.read_text()
    run.config.write_text(text.replace("samples_per_prompt: 2", "samples_per_prompt: 3"))
    assert run.config.read_text() != text or "samples_per_prompt: 2" not in text
    run.config.write_text(run.config.read_text() + "\n")
    with pytest.warns(AdrpoWarning, match=r"config\.yaml is not as the run wrote it"):
        Target.resolve(str(run.path), door_of)


def test_weights_that_changed_are_not_asked(run: RunDirectory):
    weights = next(run.final.glob("*.safetensors"))
    flip(weights)
    with pytest.raises(AdrpoError, match=f"{weights.name}: expected sha256"):
        Target.resolve(str(run.path), door_of)
    (run.final / "manifest.json").unlink()
    with pytest.warns(AdrpoWarning, match="has no checksums"):
        Target.resolve(str(run.path), door_of)


def evaluated(run: RunDirectory, step: int) -> None:
    """What an evaluation writes, in its order."""
    forget_evaluation(run, step)
    (run.samples).mkdir(exist_ok=True)
    (run.samples / "final.jsonl").write_text(f"{step}")
    write_values(values_path(run, step), {})
    run.append_evaluation({"step": step, "split": "unseen"})
    note(run)


def gone_back(run: RunDirectory) -> None:
    forget_after(run, 1)
    run.truncate_after(1)
    note(run)


def test_damage_in_a_folder_of_a_folder_is_found(tmp_path: Path):
    (tmp_path / "inner").mkdir()
    file = tmp_path / "inner" / "weights"
    file.write_bytes(b"one")
    manifest.seal(tmp_path)
    assert manifest.damage(tmp_path) is None
    file.write_bytes(b"two")
    assert f"{file}: expected sha256" in str(manifest.damage(tmp_path))


def test_a_kill_is_no_damage(tmp_path: Path):
    """At each disk operation of an evaluation, and of going back to a step."""
    for name, work in {"forward": lambda run: evaluated(run, 2), "back": gone_back}.items():
        call, survived = 0, False
        while not survived:
            call += 1
            run = RunDirectory.create(tmp_path / f"{name}-{call}", "training: {}\n")
            for step in (1, *([2] if name == "back" else [])):
                run.append_metrics({"step": step, "loss": 0.1})
                evaluated(run, step)
            with pytest.MonkeyPatch.context() as patch:
                kill_at(call, patch)
                try:
                    work(run)
                    survived = True
                except Killed:
                    pass
            assert told(run) == [], f"killed at call {call} {name}"
        assert call > 5


def test_the_base_is_not_taken_from_a_damaged_run(image_run: Path, tmp_path: Path):
    shutil.copytree(image_run, tmp_path / "other")
    other = RunDirectory.open(tmp_path / "other")
    settings = tiny_config(training={"steps": 2}, evaluation={"every": 1}).model_dump(mode="json")
    check_base_evaluation(other, settings, ["unseen"], ())
    flip(values_path(other, 0))
    with pytest.raises(AdrpoError, match=r"--base: .*values\.json: expected the file as"):
        check_base_evaluation(other, settings, ["unseen"], ())


def test_what_was_adopted_is_recorded(image_run: Path, tmp_path: Path):
    run = RunDirectory.create(tmp_path / "run", image_run.joinpath("config.yaml").read_text())
    adopt_base_evaluation(run, RunDirectory.open(image_run))
    note(run)
    record = json.loads((run.path / "manifest.json").read_text())
    assert "samples/step-000000/values.json" in record["sha256"]
    assert record["rows"]["evaluations.jsonl"][0] == run.evaluations.stat().st_size

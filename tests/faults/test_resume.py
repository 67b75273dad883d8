"""Killed at any moment and resumed, a run ends as if it had never stopped."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from adrpo.config import FlowConfig, config_to_yaml, load_flow_config
from adrpo.errors import AdrpoError
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.runs.directory import RunDirectory
from adrpo.runs.lock import exclusive
from adrpo.runs.record import forget
from support.command_line import Command
from support.killed_runs import environment, kill, rows, started, train_command
from support.tiny_runs import adapter_bytes, metrics_without_timings, tiny_config

STEPS = 5


def config(every: int) -> FlowConfig:
    """A reward that draws from NumPy's generator, a rate that falls, an anchor that moves: the
    state of each must be kept as well."""
    return tiny_config(
        training={"steps": STEPS, "learning_rate_schedule": "cosine"},
        checkpoint={"every": every},
        evaluation={"every": 3},
        algorithm={"anchor": "ema"},
    ).model_copy(update={"reward": tiny_reward()})


def tiny_reward():
    return FlowConfig.model_validate(
        {"reward": [{"name": "support.tiny_runs:noisy_darkness"}]}
    ).reward


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(config_to_yaml(config(every=2)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    return FlowTrainer(load_flow_config(recipe)).train(run, progress=False)


def test_sigterm_ends_a_run_as_ctrl_c_does(recipe: Path, undisturbed: Path, tmp_path: Path):
    """As a scheduler asks before it kills: one line, which goes on, and the same end, by another
    process."""
    run = tmp_path / "run"
    command = train_command(recipe, run)
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and rows(run) < 2:
        time.sleep(0.02)
    process.terminate()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    (line,) = [line for line in errors.splitlines() if line.startswith("adrpo: ")]
    assert "interrupted; to go on from the last checkpoint: adrpo train" in line
    assert "Traceback" not in errors
    subprocess.run([*command, "--resume"], check=True, env=environment(), capture_output=True)
    assert metrics_without_timings(run) == metrics_without_timings(undisturbed)


@pytest.fixture(scope="module")
def killed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Rows that were written -> the run's folder as a kill left it.

    One process is killed. What it has on its disk while it is stopped is what a kill would leave
    there, and a copy is taken of that.
    """
    folder = tmp_path_factory.mktemp("killed")
    run = folder / "run"

    def wait(after: int) -> None:
        # After 0 steps: as soon as the folder is a run, while the base is evaluated.
        while not ((run / "config.yaml").exists() and rows(run) >= after):
            assert process.poll() is None, "the run ended before it could be stopped"
            time.sleep(0.02)

    with started(recipe, run) as process:
        try:
            for after in (0, 1):
                wait(after)
                process.send_signal(signal.SIGSTOP)
                os.waitid(os.P_PID, process.pid, os.WSTOPPED)
                shutil.copytree(run, folder / str(after))
                if after:
                    with pytest.raises(AdrpoError, match="another adrpo holds"), exclusive(run):
                        pass
                process.send_signal(signal.SIGCONT)
            wait(3)
            kill(process, run)
        finally:
            process.kill()
    return {0: folder / "0", 1: folder / "1", 3: run}


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_killed_run_resumes_to_the_same_end(
    recipe: Path, undisturbed: Path, killed: dict[int, Path], after: int
):
    run = killed[after]
    assert after <= rows(run) < STEPS and not (run / "final").exists()
    FlowTrainer(load_flow_config(recipe)).train(run, resume=True, progress=False)
    assert metrics_without_timings(run) == metrics_without_timings(undisturbed)
    assert adapter_bytes(run) == adapter_bytes(undisturbed)
    card = (run / "final/README.md").read_text(encoding="utf-8")
    assert card == (undisturbed / "final/README.md").read_text(encoding="utf-8")
    assert str(run) not in card and "with the method adrpo" in card
    evaluations = (run / "evaluations.jsonl").read_text()
    assert evaluations == (undisturbed / "evaluations.jsonl").read_text()


def test_a_folder_that_another_process_works_in_is_left_alone(
    recipe: Path, undisturbed: Path, tmp_path: Path, command: Command
):
    """The lock is of an open file, and so held against its own process, too."""
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with exclusive(run):
        assert command("train", str(recipe), "--output-dir", str(run), "--resume") == 2
    assert command.err.count("\n") == 1 and "another adrpo holds" in command.err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    with exclusive(run):  # let go by both
        pass


def test_resuming_with_other_settings_is_refused(undisturbed: Path):
    other = config(every=2)
    training = other.training.model_copy(update={"learning_rate": 0.5})
    trainer = FlowTrainer(other.model_copy(update={"training": training}))
    before = (undisturbed / "metrics.jsonl").read_bytes()
    with pytest.raises(AdrpoError, match=r"training\.learning_rate=0\.001.*0\.5"):
        trainer.train(undisturbed, resume=True, progress=False)
    assert (undisturbed / "metrics.jsonl").read_bytes() == before


def test_a_run_with_a_falling_rate_is_not_extended(undisturbed: Path):
    other = config(every=2)
    training = other.training.model_copy(update={"steps": STEPS + 1})
    trainer = FlowTrainer(other.model_copy(update={"training": training}))
    with pytest.raises(AdrpoError, match=r"training\.steps=5.*6"):
        trainer.train(undisturbed, resume=True, progress=False)


def interrupted(step: int) -> None:
    raise KeyboardInterrupt


def test_a_run_at_a_constant_rate_is_extended(tmp_path: Path):
    """Two steps and then two more are four steps, but for the evaluation between them."""
    four = tiny_config(training={"steps": 4})
    two = tiny_config(training={"steps": 2})
    FlowTrainer(two).train(tmp_path / "extended", progress=False)
    stopped: Any = FlowTrainer(four)
    stopped.step = interrupted
    with pytest.raises(KeyboardInterrupt):
        stopped.train(tmp_path / "extended", resume=True, progress=False)
    # Until it ends it has no adapter of fewer steps that could be taken for its own.
    assert not [path for path in (tmp_path / "extended").iterdir() if "final" in path.name]
    extended = FlowTrainer(four).train(tmp_path / "extended", resume=True, progress=False)
    whole = FlowTrainer(four).train(tmp_path / "whole", progress=False)
    assert metrics_without_timings(extended) == metrics_without_timings(whole)
    assert adapter_bytes(extended) == adapter_bytes(whole)
    # Training from its configuration repeats the run, as of any other.
    assert load_flow_config(extended / "config.yaml") == four
    with pytest.raises(AdrpoError, match=r"training\.steps of at least 4, .* received 2"):
        FlowTrainer(two).train(extended, resume=True, progress=False)


def files(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()
    }


def test_a_finished_run_stays_as_it_is(recipe: Path, undisturbed: Path, tmp_path: Path):
    """Whether or not its checkpoints are still there, from which it would be trained again."""
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    before = files(run)
    trainer = FlowTrainer(load_flow_config(recipe))
    trainer.train(run, resume=True, progress=False)
    assert files(run) == before
    shutil.rmtree(run / "checkpoints")
    trainer.train(run, resume=True, progress=False)
    assert files(run) == {name: text for name, text in before.items() if "checkpoints" not in name}


def test_a_run_that_stopped_early_stays_as_it_is(tmp_path: Path):
    """Its last checkpoint is older than its last step."""
    settings = tiny_config(
        training={"steps": 8, "learning_rate": 0.5},
        evaluation={"every": 1, "early_stopping": "clip_score", "patience": 2},
        checkpoint={"every": 20},
    )
    run = FlowTrainer(settings).train(tmp_path / "run", progress=False)
    assert 2 <= rows(run) < 8
    before = files(run)
    FlowTrainer(settings).train(run, resume=True, progress=False)
    assert files(run) == before


@pytest.mark.parametrize("lacking", ["final", "final.safetensors"])
def test_what_a_finished_run_lacks_is_written(
    lacking: str, recipe: Path, undisturbed: Path, tmp_path: Path
):
    """As after a kill, or on a full disk, between the last step and the end."""
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    before = files(run)
    if lacking == "final":
        shutil.rmtree(run / "final")
    else:
        (run / lacking).unlink()
        forget(RunDirectory(run), lacking)
    FlowTrainer(load_flow_config(recipe)).train(run, resume=True, progress=False)
    assert files(run) == before


def test_a_kill_while_the_adapter_is_saved_leaves_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Neither where there was none yet, nor the one of fewer steps where a run is extended."""
    settings = tiny_config(training={"steps": 1}, evaluation={"every": 1})
    longer = tiny_config(training={"steps": 2}, evaluation={"every": 1})
    run = tmp_path / "run"

    save = PipelinePolicy.save_adapter

    def killed(policy: PipelinePolicy, folder: Path) -> None:
        if "final" not in folder.name:  # a checkpoint's
            return save(policy, folder)
        folder.mkdir(exist_ok=True)
        (folder / "pytorch_lora_weights.safetensors").write_bytes(b"a part")
        raise KeyboardInterrupt

    def resume(settings: FlowConfig) -> None:
        FlowTrainer(settings).train(run, resume=True, progress=False)

    with monkeypatch.context() as patch:
        patch.setattr(PipelinePolicy, "save_adapter", killed)
        with pytest.raises(KeyboardInterrupt):
            FlowTrainer(settings).train(run, progress=False)
        assert not (run / "final").exists()
    resume(settings)
    good = adapter_bytes(run)
    with monkeypatch.context() as patch:
        patch.setattr(PipelinePolicy, "save_adapter", killed)
        with pytest.raises(KeyboardInterrupt):
            resume(longer)
        assert not (run / "final").exists()
    resume(longer)
    assert adapter_bytes(run) != good
    assert {path.name for path in run.iterdir() if "final" in path.name} == {
        "final",
        "final.safetensors",
    }

"""What trackers hear of a run: TensorBoard's real event files, and how trackers fail."""

import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from pydantic import ValidationError

from adrpo.config.trackers import LIBRARIES
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.runs.directory import RunDirectory
from adrpo.runs.processes import ALONE
from adrpo.runs.tracking import FILE, tracked
from support.command_line import Command
from support.event_files import read_events
from support.tracked_runs import (
    PROMPTS,
    new_run,
    row_of,
    rows_sent,
    tone,
    tracking_config,
    until_a_kill,
    write_steps,
)

BOARD = tracking_config("tensorboard")


def test_every_row_and_picture_of_a_run_is_in_its_event_file(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", BOARD)
    write_steps(run, BOARD, 0, 4)
    events = read_events(run.path / "tensorboard")
    assert events.scalars == rows_sent(4)  # no NaN, and no text among them
    for place in range(len(PROMPTS)):
        shown = events.images[f"samples/{place:02d}"]
        pixels = [Image.open(io.BytesIO(png)).getpixel((0, 0)) for _, png in shown]
        assert [step for step, _ in shown] == [0, 2, 4]
        assert pixels == [(step, place, 9) for step in (0, 2, 4)]
    assert "| training.learning_rate | 0.001 |" in events.texts["config"][0][1]


def test_completions_are_a_table_and_clips_are_sent_with_the_base(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", BOARD)
    write_steps(run, BOARD, 0, 4, completions=True)
    events = read_events(run.path / "tensorboard")
    tables = events.texts["completions"]
    assert [step for step, _ in tables] == [0, 2, 4]
    for step, table in tables:
        assert table.splitlines() == [
            "| prompt | completion | reward | answer |",
            "| --- | --- | --- | --- |",
            f"| Which tone? | low at {step} | 1.0 | low |",
            "| Which tone? | a<br>b\\|c | None | low |",
        ]
    ((step, wav),) = events.sounds["clips/00"]
    sound, rate = soundfile.read(io.BytesIO(wav))
    assert (step, rate) == (0, 8000)
    np.testing.assert_allclose(sound, tone(), atol=1e-3)  # 16 bits, twice


def test_a_resumed_run_goes_on_and_no_step_is_sent_twice(tmp_path: Path) -> None:
    """It was killed after step 5, and its last checkpoint is of step 3."""
    run = new_run(tmp_path / "run", BOARD)
    write_steps(run, BOARD, 0, 5, killed=True)
    again = RunDirectory.open(run.path)
    with until_a_kill(again, BOARD):
        again.truncate_after(3)
        again.append_metrics(row_of(4))
    # Killed earlier than the first time: what was sent before that is known still.
    again = RunDirectory.open(run.path)
    with tracked(again, BOARD, ALONE):
        again.truncate_after(3)
        for step in (4, 5, 6):
            again.append_metrics(row_of(step))
    events = read_events(run.path / "tensorboard")
    assert events.scalars["train/reward_mean"] == rows_sent(6)["train/reward_mean"]
    assert [step for step, _ in events.scalars["seen/clip_score"]] == [0, 2, 4]
    assert len(events.texts["config"]) == 1


def test_a_tracker_that_is_named_later_gets_all_rows(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run", tracking_config())
    write_steps(run, tracking_config(), 0, 4)
    assert not (run.path / FILE).exists() and not (run.path / "tensorboard").exists()
    write_steps(RunDirectory.open(run.path), BOARD, 5, 6)
    events = read_events(run.path / "tensorboard")
    assert events.scalars == rows_sent(6)
    assert [step for step, _ in events.images["samples/00"]] == [0, 2, 4, 6]


def test_a_tracker_that_fails_later_is_told_once_and_is_sent_the_rest_on_resuming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.utils.tensorboard import SummaryWriter

    run = new_run(tmp_path / "run", BOARD)
    write_steps(run, BOARD, 0, 2)
    ended: list[SummaryWriter] = []
    close = SummaryWriter.close
    with monkeypatch.context() as patch:

        def full(*given: Any, **named: Any) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(SummaryWriter, "add_scalar", full)
        patch.setattr(SummaryWriter, "close", lambda own: (ended.append(own), close(own)))
        with pytest.warns(AdrpoWarning) as told:
            write_steps(run, BOARD, 3, 5)
    ((warning,), (row,)) = (told, [row_of(5)])
    assert "tensorboard failed at step 3 (OSError: [Errno 28] No space left" in str(warning.message)
    assert "training goes on" in str(warning.message)
    assert len(ended) == 1
    assert run.read_metrics()[-1] == row
    write_steps(run, BOARD, 6, 6)
    assert read_events(run.path / "tensorboard").scalars == rows_sent(6)


def test_a_tracker_that_fails_at_the_start_ends_the_run_in_one_line(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file\n")
    config = tracking_config({"name": "tensorboard", "options": {"logging_dir": str(taken)}})
    run = new_run(tmp_path / "run", config)
    with pytest.raises(AdrpoError, match=r"trackers\.0: expected tensorboard to start; .*Error"):
        write_steps(run, config, 0, 2)
    assert run.listeners == [] and not run.metrics.exists()


def test_a_tracker_without_its_library_ends_the_command_before_anything_is_loaded(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIBRARIES, "aim", LIBRARIES["aim"]._replace(module="no_such_module"))
    for words in (["train", "flow/demo"], ["demo"]):
        assert command(*words, "trackers=aim") == 2
        assert "expected an installed no_such_module for aim" in command.err
        assert "pip install aim" in command.err


def test_a_tracker_of_numbers_alone_says_so_once_and_begins_anew_on_resuming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate import tracking

    begun: list[list[tuple[int, dict[str, Any]]]] = []

    class Numbers(tracking.GeneralTracker):
        name = "dvclive"
        requires_logging_directory = False
        tracker = None

        def __init__(self, project: str, **options: Any) -> None:
            super().__init__()
            assert (project, options) == ("mine", {"report": None})
            begun.append([])

        def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
            assert step is not None
            begun[-1].append((step, values))

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "dvclive", Numbers)
    monkeypatch.setitem(LIBRARIES, "dvclive", LIBRARIES["tensorboard"])
    config = tracking_config({"name": "dvclive", "project": "mine", "options": {"report": None}})
    run = new_run(tmp_path / "run", config)
    with pytest.warns(AdrpoWarning, match="dvclive gets numbers only; pictures are in") as told:
        write_steps(run, config, 0, 4)
    assert len(told) == 1
    with pytest.warns(AdrpoWarning) as told:
        write_steps(RunDirectory.open(run.path), config, 5, 6)
    assert "dvclive can't go on with a run: a new one gets all rows" in str(told[0].message)
    for rows, steps in zip(begun, (4, 6), strict=True):
        sent = [(step, "train/reward_mean" in values) for step, values in rows]
        assert [step for step, train in sent if train] == list(range(1, steps + 1))
        assert sent == sorted(sent, key=lambda item: (item[0], not item[1]))


def test_a_secret_of_the_options_is_in_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValidationError, match="expected api_key without a secret"):
        tracking_config({"name": "wandb", "options": {"api_key": "hush-hush"}})
    monkeypatch.setenv("SUFFIX", ".hush-hush")
    options = {"comment": "{env:SUFFIX}", "logging_dir": str(tmp_path / "board")}
    config = tracking_config({"name": "tensorboard", "options": options})
    run = new_run(tmp_path / "run", config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_steps(run, config, 0, 2)
    assert read_events(tmp_path / "board" / "run").scalars == rows_sent(2)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 6
    assert not [path for path in files if b"hush-hush" in path.read_bytes()]
    blocked = str(run.config / "{env:SUFFIX}")  # within a file
    config = tracking_config({"name": "tensorboard", "options": {"logging_dir": blocked}})
    with pytest.raises(AdrpoError, match=r"config\.yaml/\*\*\*"):
        write_steps(RunDirectory.open(run.path), config, 3, 3)


@pytest.mark.parametrize(
    "kept", [{"what": 1}, {"sent": {"train": "3"}}, {"sent": [1]}, {"identity": 5}]
)
def test_a_damaged_file_of_identities_is_one_line(tmp_path: Path, kept: dict[str, Any]) -> None:
    run = new_run(tmp_path / "run", BOARD)
    (run.path / FILE).write_text(json.dumps({"tensorboard": kept}))
    with pytest.raises(AdrpoError, match=rf"{FILE}: expected what .* delete the file"):
        write_steps(run, BOARD, 0, 0)


def test_trackers_are_those_of_accelerate_and_each_is_named_once() -> None:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    assert set(LIBRARIES) == set(LOGGER_TYPE_TO_CLASS)
    with pytest.raises(ValidationError, match="expected each tracker once, received 'wandb' twice"):
        tracking_config("wandb", {"name": "wandb"})
    with pytest.raises(
        ValidationError, match=r"expected one of tensorboard, wandb, .* 'tensorbord'"
    ):
        tracking_config("tensorbord")

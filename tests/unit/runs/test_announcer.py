"""Lines of a long work where there is no terminal."""

import io
import re
import threading
import time

import pytest

from adrpo.runs.announcer import Announcer, duration, working
from adrpo.runs.counting import counted, so_far
from adrpo.runs.progress import TrainingProgress

ROW = {"divergence": 0.5, "reward_mean": 0.25, "samples_per_second": 3.0, "samples": 4}


def test_silence_ends_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever holds the main thread: here it waits for the second line."""
    said, twice = [0], threading.Event()

    def text() -> str:
        said[0] += 1
        if said[0] == 2:
            twice.set()
        return "still at it"

    with Announcer(text, silence=0.05):
        assert twice.wait(60)
    lines = capsys.readouterr().out.splitlines()
    assert lines == said[0] * ["still at it"]


def test_what_is_said_puts_the_next_line_off(capsys: pytest.CaptureFixture[str]) -> None:
    with Announcer(lambda: "still at it", silence=60) as announcer:
        announcer.say("first")
        announcer.say_if_due()
    assert capsys.readouterr().out == "first\n"


def test_a_block_is_told_aside(capsys: pytest.CaptureFixture[str]) -> None:
    errors = ""
    with working("evaluating runs/a", silence=0.05):
        print("result")
        begun = time.monotonic()
        while "\n" not in errors and time.monotonic() < begun + 60:
            streams = capsys.readouterr()
            errors += streams.err
            assert streams.out in ("result\n", "")
            time.sleep(0.01)
    assert re.match(r"evaluating runs/a, \d+ s so far\n", errors)


class Drawn(Exception):
    """Ends a work midway."""


def test_what_is_counted_is_told_with_the_work_around_it() -> None:
    told: list[str] = []
    with counted([[1, 2], [3, 4], [5]], 5, "images") as parts:
        told.append(so_far())
        for part in parts:
            with counted(["ab"], 2, "prompts") as inner:
                told += [so_far() for _ in inner if part == [3, 4]]
            told.append(so_far())
    assert told == [
        "0 of 5 images", "0 of 5 images", "2 of 5 images, 0 of 2 prompts", "2 of 5 images",
        "4 of 5 images",
    ]  # fmt: skip
    # Nothing is left of one that failed, whose traceback keeps its loop.
    with pytest.raises(Drawn), counted([[1]], 1, "images") as parts:
        for _ in parts:
            raise Drawn
    assert so_far() == ""


def test_a_long_evaluation_counts_its_samples_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress(4, completed=2, enabled=True) as bar:
        with counted([range(64), range(64)], 128, "images") as parts:
            assert [len(next(parts)) for _ in range(2)] == [64, 64]
            bar.say("train   ")
            bar.say("evaluate")
        bar.say("train   ")
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["evaluate 2/4", "evaluate 2/4, 64 of 128 images"]


def test_a_terminal_draws_the_count_beside_the_bar_and_the_spinner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    with counted([range(64), range(64)], 128, "images") as parts:
        assert [len(next(parts)) for _ in range(2)] == [64, 64]
        with TrainingProgress(4, completed=2, enabled=True) as bar:
            bar.say("evaluate")
        with working("evaluating runs/a"):
            pass
    plain = [re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", stream.getvalue()) for stream in (out, err)]
    assert re.search(r"evaluate .* 2/4 64 of 128 images", plain[0])
    assert "evaluating runs/a, 64 of 128 images, 0 s so far" in plain[1]


def test_a_run_in_a_log_has_a_line_for_each_evaluation_and_its_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with TrainingProgress(4, completed=0, enabled=True) as bar:
        bar.say("evaluate")
        for step in (1, 2, 3, 4):
            bar.say("train   ")
            bar.update(ROW | {"step": step})
            if step == 2:
                bar.say("evaluate")
    lines = capsys.readouterr().out.splitlines()
    numbers = "reward 0.25 div 0.5000 3.0/s"
    assert lines[0] == "evaluate 0/4"
    assert lines[1].startswith(f"evaluate 2/4, last training step: {numbers}, about ")
    assert lines[1].endswith(" left")
    assert lines[2:] == [f"train 4/4 {numbers}"]


def test_a_run_in_a_log_has_a_line_every_half_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with TrainingProgress(100, completed=0, enabled=True) as bar:
        bar.say("train   ")
        for step in range(1, 41):
            now[0] += 3.0
            bar.update(ROW | {"step": step})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["0/100", "10/100", "20/100", "30/100", "40/100"]
    # 3 s a step, and 90 of them.
    assert lines[1].endswith("about 4 min left")


def test_nothing_is_said_where_another_process_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress(2, completed=0, enabled=False) as bar:
        bar.update(ROW | {"step": 2})
    assert capsys.readouterr().out == ""


def test_lengths_of_time() -> None:
    assert [duration(s) for s in (0, 89, 91, 5399, 5401)] == [
        "0 s", "89 s", "2 min", "90 min", "1.5 h",
    ]  # fmt: skip

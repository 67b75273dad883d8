"""The served report: new where files change, calm where they are damaged, closed to others."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adrpo.cli.report import report
from adrpo.errors import AdrpoError
from adrpo.report.live import LivePages, LiveServer, make_live_server
from adrpo.report.source import Source
from adrpo.runs import RunDirectory
from support.documents import blocks
from support.fabricated_run import fabricate


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that trains, and has neither a step nor an evaluation yet."""
    run = fabricate(tmp_path / "run", steps=0, evaluated=(), pictured=0)
    (run / "inputs.json").write_text('{"prompts": {"train": [], "held_out": []}, "folder": ""}')
    return run


def step(run: Path, number: int) -> None:
    row = {"step": number, "loss": 0.5, "reward_mean": 20.0 + number, "wall_seconds": 3.0 * number}
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def text_of(page: bytes) -> str:
    return re.sub(r"<[^>]+>", "", page.decode())


@contextmanager
def serving(server: LiveServer) -> Iterator[LiveServer]:
    with server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server: LiveServer, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_a_run_is_shown_from_its_first_moment_on(run: Path) -> None:
    pages = LivePages([run], rest=0)
    page = text_of(pages.page())
    assert "No evaluation has been written yet." in page
    assert "The run has done 0 of 100 steps." in page
    before = pages.state()
    assert before["trouble"] == "" and before["runs"][0].startswith("step 0 of 100")
    assert pages.state()["version"] == before["version"]
    step(run, 1)
    step(run, 2)
    after = pages.state()
    assert after["version"] != before["version"]
    # Two steps three seconds apart: 98 steps are left, of three seconds.
    assert after["runs"][0].startswith("step 2 of 100, 5 min left, last row ")
    assert "The run has done 2 of 100 steps; at its pace 4.9 min are left." in text_of(pages.page())


def test_the_pace_is_that_of_steps_and_not_of_a_pause(run: Path) -> None:
    """A run that was resumed may count its seconds anew."""
    walls = [100.0, 103.0, 1.0, 4.0]
    rows = [{"step": place, "wall_seconds": wall} for place, wall in enumerate(walls, 1)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = Source.read(RunDirectory.open(run))
    assert source.seconds_left() == pytest.approx(3.0 * (100 - 4))


def test_a_damaged_row_is_told_and_the_others_are_shown(run: Path) -> None:
    step(run, 1)
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write("{damaged\n")
    step(run, 3)
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 4, "lo')  # a row that is being written
    pages = LivePages([run], rest=0)
    page = text_of(pages.page())
    assert "metrics.jsonl, line 2: expected a JSON object" in page and "line 4" not in page
    assert "The run has done 3 of 100 steps" in page
    assert pages.state()["trouble"] == ""


def test_what_cannot_be_read_keeps_the_last_page_until_it_can(run: Path) -> None:
    step(run, 1)
    pages = LivePages([run], rest=0)
    first = pages.page()
    settings = (run / "config.yaml").read_text(encoding="utf-8")
    (run / "config.yaml").write_text("a: [", encoding="utf-8")
    assert pages.page() == first
    assert "config.yaml" in pages.state()["trouble"]
    (run / "config.yaml").write_text(settings, encoding="utf-8")
    step(run, 2)
    assert pages.state()["trouble"] == "" and b"2 of 100 steps" in pages.page()


def test_a_run_that_cannot_be_read_at_first_is_told_and_asked_again(run: Path) -> None:
    settings = (run / "config.yaml").read_text(encoding="utf-8")
    (run / "config.yaml").write_text("a: [", encoding="utf-8")
    pages = LivePages([run], rest=0)
    assert "The report can’t be made yet." in text_of(pages.page())
    (run / "config.yaml").write_text(settings, encoding="utf-8")
    assert "0 of 100 steps" in text_of(pages.page())


def test_pages_are_not_made_more_often_than_said(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("adrpo.report.live.time.monotonic", lambda: now[0])
    pages = LivePages([run], rest=5)
    first = pages.page()
    step(run, 1)
    now[0] += 4.9
    assert pages.page() == first
    now[0] += 0.2
    assert b"1 of 100 steps" in pages.page()


def test_making_pages_takes_a_small_share_of_the_time(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, made = [100.0], [0]

    def slowly(*given: Any, **named: Any) -> str:
        now[0], made[0] = now[0] + 3, made[0] + 1
        return f"page {made[0]}"

    monkeypatch.setattr("adrpo.report.live.time.monotonic", lambda: now[0])
    monkeypatch.setattr("adrpo.report.live.render", slowly)
    pages = LivePages([run], rest=2)
    for second in range(100):
        step(run, second)
        pages.page()
        now[0] += 1
    # A page of three seconds comes every 33.
    assert pages.page() == b"page 4" and now[0] == 100 + 100 + 3 * 4


def test_several_runs_are_served_as_one_page(run: Path, tmp_path: Path) -> None:
    other = fabricate(tmp_path / "other", steps=3, evaluated=(0,), pictured=0)
    step(run, 1)
    pages = LivePages([run, other], rest=0)
    page = text_of(pages.page())
    assert "2 runs beside each other" in page
    lines = pages.state()["runs"]
    assert [line.partition(":")[0] for line in lines] == ["run", "other"]


def test_only_the_page_is_served_and_only_to_this_machine(run: Path) -> None:
    with serving(make_live_server([run], 0)) as server:
        status, page = ask(server, "/")
        assert status == 200 and b"connect-src 'self'" in page.replace(b"&#39;", b"'")
        (version,) = re.findall(rb'data-version="(\w+)"', page)
        status, state = ask(server, "/state")
        told: dict[str, Any] = json.loads(state)
        assert status == 200 and told["version"] == version.decode()
        for path in ("/config.yaml", "/../config.yaml", "/state/.."):
            assert ask(server, path)[0] == 404
        # A page of the web whose own name leads here.
        assert ask(server, "/", Host=f"evil.example:{server.server_address[1]}")[0] == 403
        assert ask(server, "/", Host="localhost:1234")[0] == 200
        assert server.server_address[0] == "127.0.0.1"
        with pytest.raises(AdrpoError, match=r"--port: expected a free port"):
            make_live_server([run], server.server_address[1])
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_by_an_interrupt_in_one_line(run: Path, sent: signal.Signals) -> None:
    command = [sys.executable, "-m", "adrpo", "report", str(run), "--watch", "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert re.fullmatch(r"Report: http://127\.0\.0\.1:\d+/ while the runs go on; .*\n", line)
        process.send_signal(sent)
        assert process.wait(30) == 130
        assert (process.stdout.read(), process.stderr.read()) == ("", "stopped\n")


def test_the_block_of_the_guide_makes_its_pages(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    step(run, 1)
    (tmp_path / "runs").mkdir()
    for name in ("demo", "mine"):
        shutil.copytree(run, tmp_path / "runs" / name)
    stopped: list[str] = []
    monkeypatch.setattr(
        LiveServer, "serve_until_stopped", lambda server: stopped.append(server.url)
    )
    ((_, text),) = (found for found in blocks("python") if found[0] == "docs/use/report.md")
    exec(compile(text, "report.md", "exec"), {})
    assert (tmp_path / "runs/mine/report.html").is_file() and len(stopped) == 1
    assert "2 runs beside each other" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_options_that_do_not_belong_together_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(AdrpoError, match="--output: expected none beside --watch"):
        report([run], output=tmp_path / "page.html", watch=True)
    with pytest.raises(AdrpoError, match="--port: expected --watch"):
        report([run], port=8000)
    with pytest.raises(AdrpoError, match="expected a run directory"):
        report([tmp_path / "none"], watch=True)

"""SIGTERM to commands beside a training of pictures (tests/faults/test_resume.py): each ends as by
Ctrl-C, with the line that goes on and no process left behind."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adrpo.config import config_to_yaml
from support.killed_runs import environment, rows, train_command
from support.tiny_language_runs import (
    metrics_without_timings,
    tiny_language_config,
    write_material,
)
from support.tiny_runs import tiny_config

pytestmark = pytest.mark.slow

LONG = 500
"""Steps that no test waits for."""


def recipe_of(config: Any, folder: Path) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(config_to_yaml(config), encoding="utf-8")
    return path


def ended(command: list[str], ready: Callable[[], bool], seen: list[int]) -> str:
    """What the command wrote to stderr once it was ended by SIGTERM, when it was ``ready``; its
    children of that moment are added to ``seen``."""
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            while not ready():
                assert process.poll() is None, process.communicate()[1]
                time.sleep(0.02)
            seen += children(process.pid)
            process.terminate()
            _, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    return errors


def children(parent: int) -> list[int]:
    tasks = Path(f"/proc/{parent}/task")
    if not tasks.is_dir():
        pytest.skip("no /proc to find children in")
    return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_training_of_texts_ends_as_by_ctrl_c_and_goes_on(tmp_path: Path) -> None:
    config = tiny_language_config(
        write_material(tmp_path), training={"steps": LONG}, checkpoint={"every": 1, "keep": 2}
    )
    run = tmp_path / "run"
    command = train_command(recipe_of(config, tmp_path), run)
    errors = ended(command, lambda: rows(run) >= 2, [])
    (line,) = [line for line in errors.splitlines() if line.startswith("adrpo: interrupted")]
    assert "to go on from the last checkpoint: adrpo train" in line
    before = metrics_without_timings(run)
    errors = ended([*command, "--resume"], lambda: rows(run) >= len(before) + 2, [])
    after = metrics_without_timings(run)
    # Every step once, and those before the last checkpoint as they were.
    assert [row["step"] for row in after] == list(range(1, len(after) + 1))
    assert after[: len(before) - 1] == before[:-1]


def test_the_trainings_of_a_comparison_end_with_it(tmp_path: Path) -> None:
    reward: Any = [{"name": "support.tiny_runs:darkness"}]
    config = tiny_config(training={"steps": LONG}, checkpoint={"every": 1}, reward=reward)
    folder = tmp_path / "compared"
    words = ["--seeds", "2", "--parallel", "2", "--threads", "1", "--output-dir", str(folder)]
    command = [sys.executable, "-m", "adrpo", "compare", str(recipe_of(config, tmp_path)), *words]
    seen: list[int] = []

    def both_train() -> bool:
        return sum(rows(run) > 0 for run in folder.glob("runs/*")) == 2

    errors = ended(command, both_train, seen)
    assert "interrupted; all trainings are stopped; to go on: adrpo compare" in errors
    assert len(seen) >= 2 and not any(is_there(pid) for pid in seen)
    for run in folder.glob("runs/*/"):
        assert not (run / "final").exists() and any((run / "checkpoints").iterdir())

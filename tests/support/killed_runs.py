"""A training that is killed after its first row, and resumed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from adrpo.cli.domains import door_of
from adrpo.config import Configuration, config_to_yaml, load_recipe

TESTS = Path(__file__).parents[1]


def train_command(recipe: Path, folder: Path) -> list[str]:
    return [sys.executable, "-m", "adrpo", "train", str(recipe), "--output-dir", str(folder)]


def environment() -> dict[str, str]:
    """That of a process which computes what this one does: threads change sums."""
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(torch.get_num_threads())}


def rows(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def started(recipe: Path, folder: Path) -> subprocess.Popen[bytes]:
    """The command in a process of its own, which says nothing."""
    return subprocess.Popen(
        train_command(recipe, folder),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill(process: subprocess.Popen[bytes], folder: Path) -> None:
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert not (folder / "final").exists()


def kill_and_resume(config: Configuration, folder: Path) -> None:
    """Train ``config`` into ``folder`` by the command in a process of its own, kill it when its
    first row is written, and go on from there in this process, which spares a start."""
    recipe = folder.with_name(f"{folder.name}.yaml")
    recipe.write_text(config_to_yaml(config), encoding="utf-8")
    process = started(recipe, folder)
    while process.poll() is None and rows(folder) < 1:
        time.sleep(0.005)
    kill(process, folder)
    again = load_recipe(str(recipe))
    door_of(again).build(again).train(folder, resume=True, progress=False)

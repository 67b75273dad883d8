"""A training that is killed after its first row, and resumed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from adrpo.config import Configuration, config_to_yaml

TESTS = Path(__file__).parents[1]


def kill_and_resume(config: Configuration, folder: Path) -> None:
    """Train ``config`` into ``folder`` by the command in a process of its own, kill it when its
    first row is written, and go on from there."""
    recipe = folder.with_name(f"{folder.name}.yaml")
    recipe.write_text(config_to_yaml(config), encoding="utf-8")
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    # Threads change sums: as many as this process has.
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", "adrpo", "train", str(recipe), "--output-dir", str(folder)]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    metrics = folder / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and b"\n" in metrics.read_bytes()):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert not (folder / "final").exists()
    subprocess.run([*command, "--resume"], check=True, env=environment, capture_output=True)

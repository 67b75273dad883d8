"""Two processes of Python that train together, as torchrun would start them."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TESTS = Path(__file__).parents[1]
LAUNCHERS = TESTS.parent / "recipes" / "accelerate"
PATIENCE = 400
"""Seconds after which a test stops waiting. Processes need a tenth of them on an idle machine; one
that waited for another in vain would wait for Gloo's 1800."""


def environment(**variables: str) -> dict[str, str]:
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | variables


def start(*arguments: str | Path, **variables: str) -> list[subprocess.Popen[str]]:
    """Two processes of Python that are told what torchrun tells its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    number = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    return [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env=environment(**address, **number, **variables, RANK=str(rank), LOCAL_RANK=str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def finish(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each; none is left running."""
    try:
        written = [process.communicate(timeout=PATIENCE) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(p.returncode, *texts) for p, texts in zip(processes, written, strict=True)]


def launch(
    configuration: str, *command: str | Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Two processes by `accelerate launch` and a shipped configuration."""
    launcher = ["-m", "accelerate.commands.launch", "--config_file", str(LAUNCHERS / configuration)]
    launcher += ["--num_processes", "2", "--main_process_port", "0"]
    return subprocess.run(
        [sys.executable, *launcher, *map(str, command)],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

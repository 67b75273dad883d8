"""Two machines, each with its launcher: here both on one machine, which talk by its loopback."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from adrpo.config import config_to_yaml
from support.shared_steps import CONFIGS
from support.started_processes import LAUNCHERS, environment, finish, launch
from support.tiny_runs import adapter_bytes, metrics_without_timings

pytestmark = pytest.mark.slow


def train(recipe: Path, run: Path, *more: str) -> list[str]:
    return ["-m", "adrpo", "train", str(recipe), "--output-dir", str(run), *more]


def on_two_machines(*command: str) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of the launcher of each machine, as docs/use/scale-out.md has
    its line."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launcher = ["-m", "accelerate.commands.launch", "--config_file", str(LAUNCHERS / "ddp.yaml")]
    launcher += ["--num_machines", "2", "--num_processes", "2", "--main_process_ip", "127.0.0.1"]
    launcher += ["--main_process_port", port]
    return finish(
        [
            subprocess.Popen(
                [sys.executable, *launcher, "--machine_rank", rank, *command],
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in "01"
        ]
    )


def test_two_launchers_train_what_one_trains_and_go_on_with_it(tmp_path: Path):
    """One launcher's two processes equal one process (test_several_processes)."""
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(config_to_yaml(CONFIGS["adrpo"]), encoding="utf-8")
    alone, together = tmp_path / "alone", tmp_path / "together"
    result = launch("ddp.yaml", *train(recipe, alone))
    assert result.returncode == 0, result.stderr
    # The first step, and then the second: a run at a constant rate is extended.
    for more in (("training.steps=1",), ("--resume",)):
        for code, _, errors in on_two_machines(*train(recipe, together, *more)):
            assert code == 0, errors
    rows = metrics_without_timings(together)
    assert rows and rows == metrics_without_timings(alone)
    assert adapter_bytes(together) == adapter_bytes(alone)

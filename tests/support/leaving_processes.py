"""A process that parts from the other one, and tells which of its threads are left over."""

import sys
from pathlib import Path

import torch

from adrpo.runs.processes import join_processes


def threads_of_gloo() -> list[str]:
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


processes = join_processes("cpu")
import diffusers  # noqa: E402, F401  as a run does: what it trains is loaded when they are joined

processes.gather_rows(torch.ones(1))
before = threads_of_gloo()
processes.leave()
sys.exit(0 if before and not threads_of_gloo() else f"before {before}, after {threads_of_gloo()}")

"""Checkpoints of a language run, which are transformers' with a file of our own."""

import re
from pathlib import Path

from adrpo.llm.trainer import STATE_FILE


def latest_complete(checkpoints: Path) -> Path | None:
    """The latest checkpoint that was written to its end; its own state comes last."""
    complete = [path for path in checkpoints.glob("checkpoint-*") if (path / STATE_FILE).is_file()]
    return max(complete, key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """The step of a checkpoint by its folder's name; -1 of another folder."""
    found = re.fullmatch(r"checkpoint-(\d+)", checkpoint.name)
    return int(found[1]) if found else -1

"""The lines of a comparison without a terminal."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from adrpo.comparison.pace import Pace
from adrpo.comparison.schedule import Job


def job(folder: Path, steps: int) -> Job:
    method: Any = SimpleNamespace(steps=steps)
    return Job(method=method, seed=0, folder=folder, machine_keys=())


def train(folder: Path, *rewards: float | None) -> None:
    """Add a step of each of ``rewards``."""
    folder.mkdir(exist_ok=True)
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as stream:
        for reward in rewards:
            stream.write(json.dumps({"step": 1, "reward_mean": reward}) + "\n")


def test_a_line_tells_rewards_and_the_time_left(tmp_path: Path) -> None:
    names = ("finished", "gone-on", "new", "later")
    finished, gone_on, new, later = folders = [tmp_path / name for name in names]
    train(finished, 0.5, 0.5, 0.5, 0.5)
    train(gone_on, 0.25)
    now = [1000.0]
    pace = Pace([job(folder, 4) for folder in folders], clock=lambda: now[0])
    assert (pace.done, pace.total) == (5, 16)
    pace.update(5, 2)
    assert pace.line() == "4 runs, 2 at work, 5 of 16 steps"
    # A minute of loading is no measure of a step.
    now[0] += 60
    train(gone_on, 0.125)
    pace.update(6, 2)
    assert pace.line() == "4 runs, 2 at work, 6 of 16 steps, gone-on reward 0.125"
    # Two steps in 20 s: 8 more take 80.
    now[0] += 20
    train(gone_on, 0.3125)
    train(new, -1.5)
    pace.update(8, 2)
    assert pace.line() == (
        "4 runs, 2 at work, 8 of 16 steps, gone-on reward 0.3125, new reward -1.5, about 80 s left"
    )
    # A reward that was not finite is written as null; a run that ended is not at work.
    train(gone_on, 0.5)
    train(new, None)
    pace.update(10, 1)
    assert pace.line() == "4 runs, 1 at work, 10 of 16 steps, about 30 s left"
    train(new, 1.0, 1.0)
    train(later, 1.0, 1.0, 1.0, 1.0)
    pace.update(16, 0)
    assert pace.line() == "4 runs, 0 at work, 16 of 16 steps"

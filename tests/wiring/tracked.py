"""The key ``trackers``, which means the same in every domain: what an event file has of a run."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from support.event_files import read_events
from wiring.table import Elsewhere, Seen, Table

TRACKERS = [{"name": "tensorboard", "options": {"filename_suffix": ".wired"}}]


def has_the_rows(folder: Path) -> None:
    """Every number of the run's files is there once, at its step, and nothing else; samples of
    every evaluation."""
    expected: dict[str, list[tuple[int, float]]] = {}
    for file, source in (
        ("metrics", lambda row: "train"),
        ("evaluations", lambda row: row["split"]),
    ):
        for line in (folder / f"{file}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            for name, value in row.items():
                if name != "step" and isinstance(value, int | float) and math.isfinite(value):
                    item = (row["step"], float(value))
                    expected.setdefault(f"{source(row)}/{name}", []).append(item)
    events = read_events(folder / "tensorboard")
    # Event files have single precision.
    assert events.scalars.keys() == expected.keys()
    for name, items in expected.items():
        assert [step for step, _ in events.scalars[name]] == [step for step, _ in items]
        np.testing.assert_allclose(
            [value for _, value in events.scalars[name]], [value for _, value in items], rtol=1e-6
        )
    shown = [*events.images.values()] or [events.texts["completions"]]
    for items in shown:
        assert [step for step, _ in items] == [step for step, _ in expected["unseen/samples"]]
    assert len(events.sounds) == len([*(folder / "samples").glob("clips/*.flac")])


def has_the_ending(folder: Path, value: dict[str, str]) -> None:
    (file,) = (folder / "tensorboard").iterdir()
    assert file.name.endswith(value["filename_suffix"])


def tracked(folder_of: Callable[[Any], Path]) -> Table:
    """The rows of a domain, whose effects get what ``folder_of`` finds the run's folder by."""
    (tracker,) = TRACKERS
    return {
        "trackers.name": Seen(tracker["name"], lambda run, _: has_the_rows(folder_of(run))),
        "trackers.options": Seen(
            tracker["options"], lambda run, value: has_the_ending(folder_of(run), value)
        ),
        "trackers.project": Elsewhere(
            ("tests/unit/runs/test_tracking_apps.py::test_a_run_of_mlflow_on_sqlite",)
        ),
    }

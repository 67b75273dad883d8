"""The files of a run, read once for a page."""

import itertools
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adrpo.report.summary import finite
from adrpo.runs.directory import Row, RunDirectory
from adrpo.runs.inputs import FILE as INPUTS

RECENT = 50
"""Steps at the end that the pace of a run is taken of."""


@dataclass(frozen=True)
class Source:
    """A run's configuration and rows; ``faults`` are sentences on what could not be read."""

    run: RunDirectory
    config: Mapping[str, Any]
    metrics: list[Row]
    evaluations: list[Row]
    faults: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, run: RunDirectory) -> "Source":
        """The files of ``run``; AdrpoError where one is damaged."""
        return cls(run, run.read_settings(), run.read_metrics(), run.read_evaluations())

    @classmethod
    def glance(cls, run: RunDirectory) -> "Source":
        """The files of ``run`` while it may be writing them: a damaged row is left out and told.

        Raises AdrpoError where the configuration can't be read.
        """
        metrics, lost = run.readable_rows(run.metrics)
        evaluations, lost_too = run.readable_rows(run.evaluations)
        faults = [f"Left out: {fault}." for fault in (*lost, *lost_too)]
        return cls(run, run.read_settings(), metrics, evaluations, faults)

    @property
    def trains(self) -> bool:
        """True of a run that trains, and not of the folder of an evaluation alone."""
        return bool(self.metrics) or (self.run.path / INPUTS).exists()

    @property
    def planned(self) -> int | None:
        """Steps that the run is to make; None where it does not say."""
        planned = finite(self.config.get("training"), "steps")
        return None if planned is None else int(planned)

    def seconds_left(self) -> float | None:
        """Seconds of the steps that are left at the pace of the last ones, evaluations between them
        included; None before the second step, and where the run does not say how many it makes."""
        recent = self.metrics[-RECENT:]
        walls = [wall for row in recent if (wall := finite(row, "wall_seconds")) is not None]
        # Where a run was resumed, its clock may begin anew.
        paces = [after - before for before, after in itertools.pairwise(walls)]
        forward = [pace for pace in paces if pace >= 0]
        if not forward or self.planned is None:
            return None
        return statistics.fmean(forward) * max(0, self.planned - self.metrics[-1]["step"])

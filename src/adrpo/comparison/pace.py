"""Steps, rewards and time left of a comparison, in words where no terminal can show a bar."""

import time
from collections.abc import Callable, Sequence

from adrpo.comparison.schedule import Job
from adrpo.runs.announcer import duration
from adrpo.runs.directory import RunDirectory


class Pace:
    """Steps, rewards and time left of ``jobs``, of which some may have been trained before.

    Args:
        jobs: all runs of the comparison.
        clock: seconds, from anywhere.
    """

    def __init__(self, jobs: Sequence[Job], clock: Callable[[], float] = time.monotonic) -> None:
        self._jobs = jobs
        self._clock = clock
        self._before = [job.steps_done() for job in jobs]
        self._begun = self._done = sum(self._before)
        self._started: float | None = None
        self._at_work = 0
        self.total = sum(job.method.steps for job in jobs)

    @property
    def done(self) -> int:
        """Steps of all runs so far."""
        return self._done

    @property
    def runs(self) -> str:
        """The number of runs, and of those at work."""
        return f"{len(self._jobs)} runs, {self._at_work} at work"

    def update(self, steps: int, at_work: int) -> None:
        """Take the steps done of all runs, and how many are at work."""
        if self._started is None and steps > self._begun:
            # What comes before the first step, as loading and the base's evaluation, is no measure
            # of one.
            self._begun, self._started = steps, self._clock()
        self._done, self._at_work = steps, at_work

    def line(self) -> str:
        """The bar's content in plain words, with the newest reward of each run at work."""
        parts = [self.runs, f"{self._done} of {self.total} steps", *self._rewards()]
        if self._started is not None and self._begun < self._done < self.total:
            each = (self._clock() - self._started) / (self._done - self._begun)
            parts.append(f"about {duration(each * (self.total - self._done))} left")
        return ", ".join(parts)

    def _rewards(self) -> list[str]:
        """Folder, step and reward of each run that this command trains."""
        found: list[str] = []
        for job, before in zip(self._jobs, self._before, strict=True):
            if not before < job.steps_done() < job.method.steps:
                continue
            run = RunDirectory(job.folder)
            rows, _ = run.readable_rows(run.metrics)
            reward = rows[-1].get("reward_mean") if rows else None
            if isinstance(reward, int | float):
                found.append(f"{job.folder.name} reward {reward:.4g}")
        return found

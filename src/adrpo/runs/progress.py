"""The progress of a training run: a bar in a terminal, and lines elsewhere."""

import math
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from adrpo.metrics import File
from adrpo.runs.announcer import Announcer, duration
from adrpo.runs.counting import so_far
from adrpo.runs.directory import RunDirectory
from adrpo.runs.symptoms import Watch


class TrainingProgress:
    """One line: steps, reward, divergence, range of beta, samples per second, time left.

    In a terminal it is a bar. Elsewhere, as in a log, the line is printed at each evaluation and
    at least every 30 s. The rows that ``run`` writes meanwhile are looked at for symptoms
    (:mod:`adrpo.runs.symptoms`), each of which is told once, also where the run was resumed.
    """

    def __init__(
        self,
        total: int,
        *,
        completed: int,
        enabled: bool,
        run: RunDirectory | None = None,
    ) -> None:
        self._bar = Progress(
            # Together 80 columns at most, so that nothing is cut off in a small terminal.
            TextColumn("{task.description}"),
            BarColumn(bar_width=8),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            _Numbers(),
            TimeRemainingColumn(compact=True),
            disable=not enabled,
        )
        self._lines = None
        if enabled and not self._bar.console.is_terminal:
            self._bar.disable = True
            self._lines = Announcer(self._line)
        self._total, self._begun, self._done = total, completed, completed
        self._activity, self._numbers = "evaluate", ""
        self._started = time.monotonic()
        self._told: set[str] = set()
        self._run = run
        self._watch = Watch({} if run is None else run.read_settings(), total)
        if run is not None:
            for file, row in run.rows():
                self._watch.update(row, file)
        self._task = self._bar.add_task("evaluate", total=total, completed=completed, numbers="")

    def __enter__(self) -> "TrainingProgress":
        with ExitStack() as stack:
            stack.enter_context(self._bar)
            if self._lines is not None:
                stack.enter_context(self._lines)
                self._lines.say(self._line())
            if self._run is not None:
                self._run.listeners.append(self.hear)
                stack.callback(self._run.listeners.remove, self.hear)
            self._open = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._lines is not None and self._numbers and self._lines.last != self._line():
            self._lines.say(self._line())
        self._open.__exit__(kind, error, trace)

    def say(self, activity: str) -> None:
        """Name what goes on now: train, evaluate."""
        self._bar.update(self._task, description=activity)
        changed, self._activity = activity.strip() != self._activity, activity.strip()
        if self._lines is not None and changed and self._activity != "train":
            self._lines.say(self._line())

    def update(self, row: dict[str, Any]) -> None:
        """Show a row of metrics.jsonl; the first of those whose rewards have a gap is told."""
        self._tell(row)
        # An offline method has no reward, and not every method a coefficient.
        parts = [f"div {_number(row['divergence'], '.4f')}", f"{row['samples_per_second']:.1f}/s"]
        if "beta_min" in row:
            low, high = (_number(row[name], ".2g") for name in ("beta_min", "beta_max"))
            parts.insert(1, f"beta {low}..{high}")
        if "reward_mean" in row:
            parts.insert(0, f"reward {_number(row['reward_mean'], '.4g')}")
        numbers = " ".join(parts)
        self._bar.update(self._task, completed=row["step"], numbers=numbers)
        if self._numbers == "":  # what came before the first step is no measure of a step
            self._begun, self._started = row["step"], time.monotonic()
        self._done, self._numbers = row["step"], numbers
        if self._lines is not None:
            self._lines.say_if_due()

    def hear(self, file: File, row: dict[str, Any]) -> None:
        """Look at a row that the run has written into ``file`` for symptoms."""
        for sentence in self._watch.update(row, file):
            self._print(sentence)

    def _line(self) -> str:
        """The bar's content in plain words."""
        # An evaluation has rewards, too: these are not its own.
        of = ", last training step:" if self._activity != "train" and self._numbers else ""
        line = f"{self._activity} {self._done}/{self._total}{of} {self._numbers}".rstrip()
        if counts := so_far():
            return f"{line}, {counts}"
        if not self._begun < self._done < self._total:
            return line
        each = (time.monotonic() - self._started) / (self._done - self._begun)
        return f"{line}, about {duration(each * (self._total - self._done))} left"

    def _tell(self, row: dict[str, Any]) -> None:
        """One line for the first step that lacks some scores, that lacks all, and in which a
        reward raised; metrics.jsonl has the others."""
        samples, excluded = row.get("samples"), row.get("samples_excluded", 0)
        news = {
            "raised": "reward_error" in row,
            "all": excluded == samples,
            "some": 0 < excluded,
        }
        if not excluded or self._told >= {kind for kind, found in news.items() if found}:
            return
        self._told |= {kind for kind, found in news.items() if found}
        told = f"step {row['step']}: {excluded} of {samples} samples have no score and are left out"
        if excluded == samples:
            told = f"step {row['step']}: none of {samples} samples has a score to learn from"
        if "reward_error" in row:
            told += f" ({row['reward_error']})"
        self._print(f"{told}; metrics.jsonl counts all")

    def _print(self, line: str) -> None:
        if self._lines is not None:
            self._lines.say(line)
        elif not self._bar.disable:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Numbers(ProgressColumn):
    """Numbers of the last step, and in their place what is counted (:mod:`adrpo.runs.counting`):
    both have no room in a small terminal."""

    def render(self, task: Task) -> Text:
        return Text(so_far() or task.fields["numbers"])


def _number(value: float | None, form: str) -> str:
    """``value``, or a dash for that of nothing."""
    return "-" if value is None or math.isnan(value) else format(value, form)

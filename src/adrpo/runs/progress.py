"""The progress bar of a training run."""

from types import TracebackType
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingProgress:
    """One line: steps, reward, divergence, range of beta, samples per second, time left."""

    def __init__(self, total: int, *, completed: int, enabled: bool) -> None:
        self._bar = Progress(
            # Together 80 columns at most, so that nothing is cut off in a small terminal.
            TextColumn("{task.description}"),
            BarColumn(bar_width=8),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(compact=True),
            disable=not enabled,
        )
        self._task = self._bar.add_task("evaluate", total=total, completed=completed, numbers="")

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def say(self, activity: str) -> None:
        """Name what goes on now: train, evaluate."""
        self._bar.update(self._task, description=activity)

    def update(self, row: dict[str, Any]) -> None:
        """Show a row of metrics.jsonl."""
        # An offline method has no reward, and not every method a coefficient.
        parts = [f"div {row['divergence']:.4f}", f"{row['samples_per_second']:.1f}/s"]
        if "beta_min" in row:
            parts.insert(1, f"beta {row['beta_min']:.2g}..{row['beta_max']:.2g}")
        if "reward_mean" in row:
            parts.insert(0, f"reward {row['reward_mean']:.4g}")
        numbers = " ".join(parts)
        self._bar.update(self._task, completed=row["step"], numbers=numbers)

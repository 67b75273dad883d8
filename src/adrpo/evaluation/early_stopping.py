"""Stopping when a held-out metric no longer gets better, with the best weights kept."""

import shutil
from pathlib import Path

from adrpo.errors import AdrpoError
from adrpo.metrics import UNSEEN
from adrpo.runs.directory import RunDirectory
from adrpo.runs.kept_weights import best_place, watched_values
from adrpo.runs.manifest import check_weights


class EarlyStopping:
    """The rule that ends a run: it reads the evaluations and decides.

    It keeps nothing itself, so that resuming changes nothing.

    Args:
        metric: of the held-out prompts, ``evaluation.early_stopping``; None never stops.
        patience: evaluations without a new best value that end the run.
    """

    def __init__(self, metric: str | None, patience: int = 1) -> None:
        self.metric = metric
        self.patience = patience

    @property
    def active(self) -> bool:
        return self.metric is not None

    def reached(self, run: RunDirectory) -> bool:
        """True where none of the last ``patience`` evaluations is better than the best before
        them."""
        if not self.active:
            return False
        values = self._values(run)
        return bool(values) and len(values) - 1 - best_place(values) >= self.patience

    def improved(self, run: RunDirectory) -> bool:
        """True where the last evaluation is the best so far; of equal ones the first is."""
        if not self.active:
            return False
        values = self._values(run)
        return best_place(values) == len(values) - 1

    def folder(self, run: RunDirectory) -> Path:
        """Folder of the best evaluation's weights until the run ends."""
        return run.path / "best"

    def copy_best(self, run: RunDirectory, folder: Path) -> None:
        """Copy the best weights into ``folder``; AdrpoError where they are damaged."""
        check_weights(self.folder(run))
        shutil.copytree(self.folder(run), folder, dirs_exist_ok=True)

    def _values(self, run: RunDirectory) -> list[float]:
        """The metric of each evaluation, turned where less of it is better."""
        assert self.metric is not None, "asked only where it is active"
        evaluations = run.read_evaluations(UNSEEN)
        if evaluations and self.metric not in evaluations[0]:
            names = [name for name in evaluations[0] if f"{name}_low" in evaluations[0]]
            raise AdrpoError(
                f"evaluation.early_stopping: expected one of {', '.join(names)}; "
                f"received {self.metric!r}"
            )
        return watched_values(evaluations, self.metric)

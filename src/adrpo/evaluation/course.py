"""The evaluations of a run: its base's, those of its steps, and the best of them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from adrpo.evaluation.early_stopping import EarlyStopping
from adrpo.evaluation.evaluator import Evaluator
from adrpo.publishing.final import write_card
from adrpo.runs.base_evaluation import adopt_base_evaluation
from adrpo.runs.directory import RunDirectory
from adrpo.runs.manifest import sealed_folder
from adrpo.runs.processes import ALONE, Processes
from adrpo.runs.record import note
from adrpo.runs.session import Session


def is_complete(opened: Session, steps: int, stopping: EarlyStopping) -> bool:
    """True where a run of ``steps`` steps has nothing left to do: it made them all, or
    ``stopping`` ended it, and has its ``final/``; the same on all processes."""

    def decide() -> bool:
        rows = opened.run.read_metrics()
        made = rows[-1]["step"] if rows else 0
        return opened.run.final.is_dir() and (made >= steps or stopping.reached(opened.run))

    return opened.processes.from_main(decide)


class Course:
    """The evaluations that a training makes on its way, the same in every domain.

    Args:
        evaluators: one for each split.
        stopping: when a metric no longer rises.
        save: writes the trained weights into a folder, as ``final/`` holds them.
        processes: that train together; the main one writes.
        kept: a context in which the model is what is evaluated and kept, such as its average.
    """

    def __init__(
        self,
        evaluators: Sequence[Evaluator[Any]],
        stopping: EarlyStopping,
        save: Callable[[Path], None],
        *,
        processes: Processes = ALONE,
        kept: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.evaluators = evaluators
        self.stopping = stopping
        self.processes = processes
        self._save = save
        self._kept = kept

    def begin(self, run: RunDirectory, base: str | Path | None = None) -> None:
        """Evaluate the untrained model, its rewards tried first, or take over that evaluation from
        the run ``base``."""
        if base is None:
            for evaluator in self.evaluators[:1]:
                evaluator.try_rewards()
            self._evaluate(run, 0, before_training=True)
        elif self.processes.is_main:
            adopt_base_evaluation(run, RunDirectory.open(base))
            note(run)
            self._keep_if_best(run)

    def evaluate(self, run: RunDirectory, step: int) -> None:
        """Measure the model on every split, and keep its weights if they are the best so far."""
        self._evaluate(run, step)

    def _evaluate(self, run: RunDirectory, step: int, *, before_training: bool = False) -> None:
        with self._kept():
            for evaluator in self.evaluators:
                evaluator.evaluate(run, step, before_training=before_training)
            if self.processes.is_main:
                self._keep_if_best(run)

    def ended(self, run: RunDirectory) -> bool:
        """The decision of early stopping to end the run here; the same on all processes."""
        return self.processes.from_main(lambda: self.stopping.reached(run))

    def finish(self, run: RunDirectory) -> None:
        """Write ``final/``: the weights of the last step, or of the best evaluation where early
        stopping is on, and their card."""
        if not self.processes.is_main:
            return
        with self._kept(), sealed_folder(run.final) as partial:
            if self.stopping.active:
                self.stopping.copy_best(run, partial)
            else:
                self._save(partial)
            write_card(run, partial)

    def _keep_if_best(self, run: RunDirectory) -> None:
        if self.stopping.improved(run):
            with sealed_folder(self.stopping.folder(run)) as partial:
                self._save(partial)

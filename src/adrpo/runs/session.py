"""A run's folder while one training works in it: made or reopened, held, brought back to a step."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adrpo.config import Configuration, config_to_yaml
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.metrics import UNSEEN
from adrpo.runs.base_evaluation import check_base_evaluation, open_base
from adrpo.runs.checkpoints import clear_after, intact_checkpoint, latest_checkpoint
from adrpo.runs.directory import RunDirectory
from adrpo.runs.disk import resumable_writing
from adrpo.runs.durable import clear_partial, remove_folder, write_durably
from adrpo.runs.facts import FILE as FACTS
from adrpo.runs.facts import Facts, write_facts
from adrpo.runs.inputs import Inputs, check_inputs, check_unseen, keep_inputs
from adrpo.runs.lock import exclusive
from adrpo.runs.processes import ALONE, Processes
from adrpo.runs.record import check_resumed, forget, forget_after, note
from adrpo.runs.resuming import check_same_run
from adrpo.runs.tracking import tracked

STEPS = "training.steps"


@dataclass(frozen=True)
class Session:
    """An open run, which the main one of ``processes`` writes.

    ``config_yaml`` is the resolved configuration as this call has it; ``resumed`` says whether the
    run had begun before.
    """

    run: RunDirectory
    config_yaml: str
    resumed: bool
    keep: int
    """Number of checkpoints that the run keeps."""
    processes: Processes = ALONE

    def checkpoint(self) -> Path | None:
        """The latest checkpoint that is intact, the same on all processes; None before the first.

        Later ones that are damaged are warned of. Raises AdrpoError where none is intact, or where
        the processes don't see one folder.
        """
        self.agreed(latest_checkpoint(self.run))
        with self.processes.failing_together():
            return self.processes.from_main(lambda: intact_checkpoint(self.run))

    def agreed(self, checkpoint: Path | None) -> Path | None:
        """``checkpoint``, the latest that this process sees, if all processes see the same one."""
        found = self.processes.gather(checkpoint and checkpoint.name)
        if len(set(found)) > 1:
            raise AdrpoError(
                f"--resume: expected a folder that all processes see alike; received "
                f"{self.run.path}, whose latest checkpoint is {' and '.join(map(str, found))}; put "
                f"it on a file system that all machines share"
            )
        return checkpoint

    def go_back(self, step: int) -> None:
        """Drop the rows of steps after ``step`` (-1: all of them), and keep this call's settings,
        whose steps may be more than the run began with: the weights in ``final/`` are then not
        those of its end, and are dropped, too."""
        if self.processes.is_main:
            forget_after(self.run, step)
            write_durably(self.run.config, self.config_yaml.encode())
            remove_folder(self.run.final)
            self.run.diverged.unlink(missing_ok=True)
            self.run.truncate_after(step)
            clear_after(self.run.checkpoints, step, keep=self.keep)
            note(self.run)


@contextmanager
def session(
    output_dir: str | Path,
    config: Configuration,
    *,
    facts: Facts,
    inputs: Inputs,
    splits: Sequence[str] = (UNSEEN,),
    resume: bool = False,
    base: str | Path | None = None,
    processes: Processes = ALONE,
) -> Iterator[Session]:
    """Hold the run in ``output_dir`` against other processes: a new one, or with ``resume`` the one
    that lies there.

    Args:
        output_dir: the run's folder.
        config: the resolved configuration.
        facts: of the domain, for those that read the run.
        inputs: the prompts of the run.
        splits: those that it evaluates.
        resume: whether to go on with a run.
        base: a run whose evaluation of the untrained model is to be taken over.
        processes: that train together.

    Raises:
        AdrpoError: the folder holds another run, another process works in it, the run can't go on
            with these settings or prompts, or ``base`` measured something else. Nothing is written
            then, and nothing is left of a run that ends in an error before its first evaluation.
    """
    settings, path = config.model_dump(mode="json"), Path(output_dir)
    was_there = path.exists()
    with resumable_writing(path):
        with telling(processes):
            check_unseen(inputs, resume=resume)
            if base is not None:
                other = open_base(base)
                check_base_evaluation(other, settings, splits, facts.machine_keys, inputs)
            if processes.is_main and not resume:
                RunDirectory.create(path, config_to_yaml(config), inputs.files())
            processes.wait()
            run = RunDirectory.open(path)
        with exclusive(run.path) if processes.is_main else nullcontext():
            if resume:
                with telling(processes):
                    check_resumable(run, settings)
                    check_resumed(run)
                    check_inputs(run, inputs)
            processes.wait()
            if processes.is_main:
                _keep(run, facts, inputs, resume=resume)
            try:
                keep = settings["checkpoint"]["keep"]
                with tracked(run, config, processes):
                    yield Session(run, config_to_yaml(config), resume, keep, processes)
            except Exception:
                if processes.is_main and not resume and not run.has_begun():
                    # A mistake that is mended now can be tried again under the same name.
                    run.discard(keep_folder=was_there)
                raise
            processes.wait()


def _keep(run: RunDirectory, facts: Facts, inputs: Inputs, *, resume: bool) -> None:
    """Write what the run is known by, and take it into the run's record."""
    if resume:
        clear_partial(run.path)
    forget(run, FACTS)
    write_facts(run, facts)
    keep_inputs(run, inputs)
    note(run)


@contextmanager
def telling(processes: Processes) -> Iterator[None]:
    """A block whose warnings the main one of ``processes`` gives, and no other."""
    with warnings.catch_warnings() if not processes.is_main else nullcontext():
        if not processes.is_main:
            warnings.simplefilter("ignore", AdrpoWarning)
        yield


def check_resumable(run: RunDirectory, settings: Mapping[str, Any]) -> None:
    """Raise AdrpoError where ``run`` can't go on with ``settings``.

    More steps extend a run, unless its learning rate falls to the run's end: then they would
    change all of it.
    """
    training = settings["training"]
    constant = training["learning_rate_schedule"] == "constant"
    check_same_run(run, settings, may_differ=[STEPS] if constant else [])
    begun = run.read_settings()["training"]["steps"]
    if training["steps"] < begun:
        raise AdrpoError(
            f"--resume: expected {STEPS} of at least {begun}, which the run in {run.path} has; "
            f"received {training['steps']}; resume with its own settings"
        )

"""Trains what a comparison lacks: several runs at a time, each by ``adrpo train``."""

import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from adrpo.comparison.plan import Entry, Plan
from adrpo.comparison.workers import LOST, PATIENCE_SECONDS, Work, Workers
from adrpo.runs.base_evaluation import can_be_adopted, where_bases_differ
from adrpo.runs.directory import RunDirectory
from adrpo.runs.inputs import COPY
from adrpo.runs.inputs import FILE as INPUTS

POLL_SECONDS = 0.3
RETRIES = 3
"""Times that a run whose machine was lost is tried again before it counts as failed."""

ERROR = "adrpo: error: "

FIRST = ("environment.json", INPUTS, COPY)
"""Files that a run has before its configuration."""


@dataclass(frozen=True)
class Job:
    """One run of a comparison."""

    method: Entry
    seed: int
    folder: Path
    machine_keys: tuple[str, ...]
    """Keys of the domain that touch speed and memory only."""

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")

    def arguments(self, overrides: Sequence[str], base: "Job | None" = None) -> list[str]:
        """The words after ``adrpo``: train, with --resume where the folder holds a run, and with
        the evaluation of the untrained model out of ``base`` where it holds none."""
        settings = [*overrides, f"training.seed={self.seed}"]
        arguments = ["train", self.method.recipe, *settings, "--output-dir", str(self.folder)]
        resume = ["--resume"] if (self.folder / "config.yaml").is_file() else []
        evaluated = ["--base", str(base.folder)] if base is not None and not resume else []
        return [*arguments, *resume, *evaluated]

    def starts_as(self, other: "Job") -> bool:
        """True where this job can take over the evaluation of the base that ``other`` has made."""
        ours, theirs = self.method.settings, other.method.settings
        return (
            self.seed == other.seed
            and where_bases_differ(ours, theirs, self.machine_keys) is None
            and other.steps_done() > 0
            and can_be_adopted(other.folder)
        )

    def steps_done(self) -> int:
        """Steps in metrics.jsonl so far."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_bytes().count(b"\n") if path.exists() else 0
        return min(lines, self.method.steps)

    def has_diverged(self) -> bool:
        """True where the run has said that it diverged."""
        return RunDirectory(self.folder).diverged_at() is not None

    def is_finished(self) -> bool:
        """True where the run has its last evaluation and the adapter, which comes after it, or has
        diverged: the same settings would diverge again."""
        if self.has_diverged():
            return True
        final = self.folder / "final"
        if not (self.folder / "config.yaml").is_file() or not final.is_dir():
            return False
        rows = RunDirectory.open(self.folder).read_evaluations()
        evaluated = max((row["step"] for row in rows), default=-1)
        return evaluated == self.method.steps and any(final.iterdir())


@dataclass(frozen=True)
class Failure:
    """A job that ended without finishing, and the last thing it said."""

    job: Job
    reason: str


def jobs_of(plan: Plan) -> list[Job]:
    """Every run of the comparison, seed after seed, so that an early look has all methods."""
    return [
        Job(method, seed, plan.run_folder(method, seed), plan.machine_keys)
        for seed in plan.seeds
        for method in plan.methods
    ]


def run_jobs(
    jobs: Sequence[Job],
    overrides: Sequence[str],
    *,
    workers: Workers,
    on_progress: Callable[[int, int], None] = lambda steps, running: None,
    on_failure: Callable[[Failure], None] = lambda failure: None,
    on_loss: Callable[[Job], None] = lambda job: None,
) -> list[Failure]:
    """Run the unfinished ``jobs``, as many at a time as the ``workers`` take.

    A job that fails does not stop the others. One whose machine is lost goes on with another
    worker, from its last checkpoint. On the way out, by Ctrl-C or any error, what still runs is
    stopped.

    Args:
        jobs: what to run; finished ones are kept as they are, stopped ones go on.
        overrides: "section.key=value" for all of them.
        workers: what runs them.
        on_progress: receives the steps done of all jobs, and how many run.
        on_failure: receives each failure as it happens.
        on_loss: receives each job whose machine was lost, before it waits again.

    Returns:
        The failures, in the order in which they happened.
    """
    waiting = deque(job for job in jobs if not job.is_finished())
    running: list[_Running] = []
    failures: list[Failure] = []
    losses: Counter[Path] = Counter()
    steps = {job.folder: job.steps_done() for job in jobs}
    try:
        while waiting or running:
            while waiting and len(running) < workers.slots:
                running.append(_start(waiting.popleft(), jobs, overrides, workers))
            for entry in list(running):
                job, code = entry.job, entry.work.poll()
                steps[job.folder] = job.steps_done()
                if code is None:
                    continue
                running.remove(entry)
                if code == LOST and not job.is_finished() and losses[job.folder] < RETRIES:
                    losses[job.folder] += 1
                    on_loss(job)
                    waiting.appendleft(job)
                elif not job.is_finished() or (code not in (0, LOST) and not job.has_diverged()):
                    failures.append(Failure(job, _last_words(entry, code)))
                    on_failure(failures[-1])
            on_progress(sum(steps.values()), len(running))
            if running:
                time.sleep(POLL_SECONDS)
    finally:
        _stop([entry.work for entry in running])
    return failures


@dataclass(frozen=True)
class _Running:
    job: Job
    work: Work
    log_start: int
    """Length of the log before its own output; earlier attempts may have written to it."""


def _start(job: Job, jobs: Sequence[Job], overrides: Sequence[str], workers: Workers) -> _Running:
    _clear_stillborn(job.folder)
    base = next((other for other in jobs if job.starts_as(other)), None)
    log_start = job.log.stat().st_size if job.log.exists() else 0
    return _Running(job, workers.start(job.arguments(overrides, base), job.log), log_start)


def _clear_stillborn(folder: Path) -> None:
    """Remove a folder whose run was killed before it had a configuration: nothing is in it yet,
    but ``adrpo train`` would refuse it."""
    if folder.is_dir() and not (folder / "config.yaml").exists():
        partial = {f".{name}.partial" for name in (*FIRST, "config.yaml")}
        if {entry.name for entry in folder.iterdir()} <= {*FIRST, *partial}:
            shutil.rmtree(folder)


def _last_words(ended: _Running, code: int) -> str:
    """The error line of the process, or else its last line."""
    if code == LOST:
        return "its machine was lost, again and again"
    output = ended.job.log.read_bytes()[ended.log_start :]
    lines = output.decode(errors="replace").splitlines()
    said = [line.strip() for line in lines if line.strip()]
    errors = [line.removeprefix(ERROR) for line in said if line.startswith(ERROR)]
    if errors:
        return errors[-1]
    if code < 0:
        return f"killed by signal {-code}"
    return said[-1] if said else f"exit code {code} without a word"


def _stop(works: Sequence[Work]) -> None:
    for work in works:
        work.ask_to_stop()
    deadline = time.monotonic() + PATIENCE_SECONDS
    for work in works:
        work.stop(deadline)

"""Trains what a comparison lacks: several processes at a time, each ``adrpo train``."""

import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from adrpo.comparison.plan import Entry, Plan
from adrpo.runs.base_evaluation import can_be_adopted, where_bases_differ
from adrpo.runs.directory import RunDirectory

PROGRAM = (sys.executable, "-m", "adrpo")
POLL_SECONDS = 0.3
PATIENCE_SECONDS = 10.0
"""Time that a process has to stop before it is killed; a checkpoint is whole either way."""

ERROR = "adrpo: error: "


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

    def command(
        self, program: Sequence[str], overrides: Sequence[str], base: "Job | None" = None
    ) -> list[str]:
        """``adrpo train``, with --resume where the folder holds a run, and otherwise with the
        evaluation of the untrained model out of ``base``."""
        settings = [*overrides, f"training.seed={self.seed}"]
        arguments = ["train", self.method.recipe, *settings, "--output-dir", str(self.folder)]
        resume = ["--resume"] if (self.folder / "config.yaml").is_file() else []
        evaluated = ["--base", str(base.folder)] if base is not None and not resume else []
        return [*program, *arguments, *resume, *evaluated]

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
    parallel: int,
    threads: int,
    on_progress: Callable[[int, int], None] = lambda steps, running: None,
    on_failure: Callable[[Failure], None] = lambda failure: None,
    program: Sequence[str] = PROGRAM,
) -> list[Failure]:
    """Run the unfinished ``jobs``, ``parallel`` at a time with ``threads`` threads each.

    A job that fails does not stop the others. On the way out, by Ctrl-C or any error, the
    processes that still run are stopped.

    Args:
        jobs: what to run; finished ones are kept as they are, stopped ones go on.
        overrides: "section.key=value" for all of them.
        parallel: processes at a time.
        threads: OMP_NUM_THREADS of each.
        on_progress: receives the steps done of all jobs, and how many run.
        on_failure: receives each failure as it happens.
        program: the command line that ``train`` and its arguments follow.

    Returns:
        The failures, in the order in which they happened.
    """
    waiting = deque(job for job in jobs if not job.is_finished())
    running: list[_Running] = []
    failures: list[Failure] = []
    steps = {job.folder: job.steps_done() for job in jobs}
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                job = waiting.popleft()
                _clear_stillborn(job.folder)
                base = next((other for other in jobs if job.starts_as(other)), None)
                running.append(_start(job, job.command(program, overrides, base), threads))
            for entry in list(running):
                code = entry.process.poll()
                steps[entry.job.folder] = entry.job.steps_done()
                if code is None:
                    continue
                running.remove(entry)
                if not entry.job.is_finished() or (code != 0 and not entry.job.has_diverged()):
                    failures.append(Failure(entry.job, _last_words(entry, code)))
                    on_failure(failures[-1])
            on_progress(sum(steps.values()), len(running))
            if running:
                time.sleep(POLL_SECONDS)
    finally:
        _stop([entry.process for entry in running])
    return failures


@dataclass(frozen=True)
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    log_start: int
    """Length of the log before its own output; earlier attempts may have written to it."""


def _start(job: Job, command: Sequence[str], threads: int) -> _Running:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    log_start = job.log.stat().st_size if job.log.exists() else 0
    with job.log.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
        )
    return _Running(job, process, log_start)


def _clear_stillborn(folder: Path) -> None:
    """Remove a folder whose run was killed before it had a configuration: nothing is in it yet,
    but ``adrpo train`` would refuse it."""
    if folder.is_dir() and not (folder / "config.yaml").exists():
        content = {entry.name for entry in folder.iterdir()}
        if content <= {"environment.json", ".config.yaml.partial"}:
            shutil.rmtree(folder)


def _last_words(ended: _Running, code: int) -> str:
    """The error line of the process, or else its last line."""
    output = ended.job.log.read_bytes()[ended.log_start :]
    lines = output.decode(errors="replace").splitlines()
    said = [line.strip() for line in lines if line.strip()]
    errors = [line.removeprefix(ERROR) for line in said if line.startswith(ERROR)]
    if errors:
        return errors[-1]
    if code < 0:
        return f"killed by signal {-code}"
    return said[-1] if said else f"exit code {code} without a word"


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + PATIENCE_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

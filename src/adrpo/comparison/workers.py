"""Workers of a comparison: what runs its trainings, on this machine one or several GPUs each."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from adrpo.errors import AdrpoError

PROGRAM = (sys.executable, "-m", "adrpo")
PATIENCE_SECONDS = 10.0
"""Time that a process has to stop before it is killed; a checkpoint is whole either way."""

VISIBLE = "CUDA_VISIBLE_DEVICES"

LOST = -1000
"""Code of a training whose machine is gone: nothing of it can be read, and it may go on elsewhere.

No exit code: those of a signal are -1 to -64."""


class Work(Protocol):
    """A training that a worker has started."""

    def poll(self) -> int | None:
        """The exit code, or ``LOST``; None while the training goes on."""
        ...

    def ask_to_stop(self) -> None:
        """Ask it to stop, and return at once."""
        ...

    def stop(self, deadline: float) -> None:
        """Wait for its end until ``deadline``, by time.monotonic(), and end it then."""
        ...


class Workers(Protocol):
    """The machine, or the machines, that train the runs of a comparison."""

    @property
    def slots(self) -> int:
        """Trainings at a time."""
        ...

    def start(self, arguments: Sequence[str], log: Path) -> Work:
        """Start ``adrpo`` with ``arguments``; what it prints is added to ``log``."""
        ...

    def sentence(self) -> str | None:
        """A line on where the trainings go; None where there is no choice."""
        ...


def launched(processes: int) -> tuple[str, ...]:
    """The command line that arguments of adrpo follow: of one process, or of several that train
    one run together."""
    if processes == 1:
        return PROGRAM
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))
    return (sys.executable, *launcher, "-m", "adrpo")


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = environment.get(VISIBLE)
    if named is not None:
        gpus = [gpu.strip() for gpu in named.split(",")]
        # CUDA takes no device from the first one on that is none: "-1" hides all.
        end = next((i for i, gpu in enumerate(gpus) if not gpu or gpu.startswith("-")), len(gpus))
        return gpus[:end]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


class LocalWork:
    """A process of this machine.

    Args:
        process: it.
        gpus: those that it sees; empty where it sees what its parent does.
    """

    def __init__(self, process: subprocess.Popen[bytes], gpus: tuple[str, ...] = ()) -> None:
        self._process = process
        self.gpus = gpus

    def poll(self) -> int | None:
        return self._process.poll()

    def ask_to_stop(self) -> None:
        self._process.terminate()

    def stop(self, deadline: float) -> None:
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class LocalWorkers:
    """Processes of this machine. Each training has GPUs of its own, as many as it has processes,
    where there are enough; several share them else.

    Args:
        parallel: trainings at a time; None is one for each group of GPUs, or one without any.
        threads: OMP_NUM_THREADS of a training, divided among its processes; None is the cores
            divided by ``parallel``.
        processes: processes that train one run together.
        gpus: names of the GPUs; None are those that this process may use.
        program: the command line that arguments of adrpo follow; None is adrpo's own.

    Raises:
        AdrpoError: more ``processes`` than GPUs, where there are GPUs.
    """

    def __init__(
        self,
        *,
        parallel: int | None = None,
        threads: int | None = None,
        processes: int = 1,
        gpus: Sequence[str] | None = None,
        program: Sequence[str] | None = None,
    ) -> None:
        from adrpo.runs import available_cores

        found = visible_gpus() if gpus is None else list(gpus)
        if found and processes > len(found):
            raise AdrpoError(
                f"--processes: expected at most {len(found)}, the GPUs that are here "
                f"({', '.join(found)}); received {processes}"
            )
        self.groups = [
            tuple(found[i : i + processes]) for i in range(0, len(found) - processes + 1, processes)
        ]
        self.slots = parallel or max(1, len(self.groups))
        share = threads or max(1, available_cores() // self.slots)
        self.threads = max(1, share // processes)
        self._program = list(program or launched(processes))
        self._works: list[LocalWork] = []

    def start(self, arguments: Sequence[str], log: Path) -> Work:
        self._works = [work for work in self._works if work.poll() is None]
        taken = [work.gpus for work in self._works]
        gpus = min(self.groups, key=taken.count, default=())
        environment = os.environ | {"OMP_NUM_THREADS": str(self.threads)}
        if gpus:
            environment[VISIBLE] = ",".join(gpus)
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*self._program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
            )
        self._works.append(LocalWork(process, gpus))
        return self._works[-1]

    def sentence(self) -> str | None:
        """The GPUs, and whether trainings share them; None without any."""
        if not self.groups:
            return None
        groups = "; ".join(",".join(group) for group in self.groups)
        shared = "" if self.slots <= len(self.groups) else ", which several trainings share"
        return f"{self.slots} at a time on GPU {groups}{shared}."

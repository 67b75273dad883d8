"""Workers of a comparison on the machines of a Ray cluster, which see one file system."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adrpo.comparison.workers import LOST, Work, launched
from adrpo.errors import AdrpoError

PR_SET_PDEATHSIG = 1
"""Number of Linux' prctl that asks for a signal when the parent dies."""


def die_with_parent() -> None:
    """Between fork and exec: end with the worker, whose machine may outlive it."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def run_here(arguments: Sequence[str], log: str, folder: str, threads: int, processes: int) -> int:
    """The exit code of ``adrpo`` with ``arguments`` in ``folder``, on the machine of a worker.

    Raises AdrpoError where this machine does not see the folders.
    """
    for place in (folder, os.path.dirname(log)):
        if not os.path.isdir(place):
            raise AdrpoError(
                f"--cluster: expected a working folder and an --output-dir that all machines see; "
                f"{os.uname().nodename} has no {place}"
            )
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, threads // processes))}
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [*launched(processes), *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            preexec_fn=die_with_parent,
        )
        try:
            return process.wait()
        finally:  # a task that is cancelled gets a KeyboardInterrupt
            process.terminate()
            process.wait()


def check_reachable(address: str) -> None:
    """Raise AdrpoError where nobody listens at a ``host:port``: Ray would end this process."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise AdrpoError(
            f"--cluster: expected the address of a Ray cluster; received {address}, where nobody "
            f"listens ({error}); start one by ray start --head"
        ) from None


class ClusterWork:
    """A task of the cluster."""

    def __init__(self, task: Any, log: Path) -> None:
        self._task = task
        self._log = log
        self._code: int | None = None

    def poll(self) -> int | None:
        import ray  # pyright: ignore[reportMissingImports]

        if self._code is None and ray.wait([self._task], timeout=0)[0]:
            self._code = self._result()
        return self._code

    def _result(self) -> int:
        import ray  # pyright: ignore[reportMissingImports]
        from ray.exceptions import (  # pyright: ignore[reportMissingImports]
            RayError,
            RayTaskError,
        )

        try:
            return ray.get(self._task)
        except RayTaskError as error:
            with self._log.open("a", encoding="utf-8") as log:
                log.write(f"adrpo: error: {error.cause}\n")
            return 2
        except RayError as error:  # the worker, its machine or its agent is gone
            with self._log.open("a", encoding="utf-8") as log:
                log.write(f"lost: {' '.join(str(error).split())[:300]}\n")
            return LOST

    def ask_to_stop(self) -> None:
        import ray  # pyright: ignore[reportMissingImports]

        ray.cancel(self._task)

    def stop(self, deadline: float) -> None:
        import ray  # pyright: ignore[reportMissingImports]

        ray.wait([self._task], timeout=max(0.0, deadline - time.monotonic()))
        ray.cancel(self._task, force=True)


class ClusterWorkers:
    """Machines of a Ray cluster, whose scheduler places each training where there is room.

    Args:
        address: of the cluster, "auto" for the one that this machine is part of.
        parallel: trainings at a time; None is as many as the cluster has room for.
        threads: cores, and OMP_NUM_THREADS, of a training; None is 1.
        processes: processes that train one run together, on one machine; where the cluster has
            GPUs, each has one.

    Raises:
        AdrpoError: Ray is not installed, no cluster is at ``address``, or it has no room for one
            training.
    """

    def __init__(
        self, address: str, *, parallel: int | None, threads: int | None, processes: int
    ) -> None:
        try:
            import ray  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise AdrpoError(
                "--cluster: expected Ray, received none; pip install '.[cluster]' on all machines"
            ) from None
        check_reachable(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise AdrpoError(
                f"--cluster: expected the address of a Ray cluster; received {address}: "
                f"{' '.join(str(error).split())[:200]}; start one by ray start --head"
            ) from None
        self.threads, self.processes = threads or 1, processes
        resources = ray.cluster_resources()
        self.gpus = processes if resources.get("GPU") else 0
        cores = max(self.threads, processes)
        room = int(resources.get("CPU", 0) // cores)
        if self.gpus:
            room = min(room, int(resources["GPU"] // self.gpus))
        if room == 0:
            raise AdrpoError(
                f"--cluster: expected room for a training with {cores} cores and {self.gpus} GPUs; "
                f"received a cluster of {resources.get('CPU', 0):.0f} cores and "
                f"{resources.get('GPU', 0):.0f} GPUs; lower --threads or --processes"
            )
        self.slots = parallel or room
        # Ours is the decision what to do with a run whose machine is lost.
        self._task: Any = ray.remote(
            num_cpus=cores, num_gpus=self.gpus, max_retries=0, max_calls=1
        )(run_here)

    def start(self, arguments: Sequence[str], log: Path) -> Work:
        folder = str(Path.cwd())
        task = self._task.remote(
            list(arguments), str(log.absolute()), folder, self.threads, self.processes
        )
        return ClusterWork(task, log)

    def sentence(self) -> str:
        """The size of the cluster."""
        import ray  # pyright: ignore[reportMissingImports]

        machines = sum(node["Alive"] for node in ray.nodes())
        return f"{self.slots} at a time on {machines} machines of a Ray cluster."

"""A process of its own for a piece of work, forked where the imports are done, and its end."""

import contextlib
import json
import os
import resource
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.runs.disk import disk_fault

OPERATIONS: tuple[tuple[Any, str], ...] = (
    (os, "fsync"),
    (os, "replace"),
    (Path, "mkdir"),
    (Path, "rename"),
    (Path, "open"),
    (torch, "save"),
    (shutil, "rmtree"),
)
"""Owner and name of the functions at which a run is killed, or the disk is full from there on."""


@dataclass
class End:
    """The end of a process: killed, in an error that names its mistake, in a traceback, or well."""

    killed: bool = False
    error: str = ""
    traceback: str = ""
    told: list[str] = field(default_factory=list)
    """Warnings of ours."""
    result: Any = None

    @property
    def said(self) -> str:
        """All that a user has read."""
        return "\n".join([self.error, *self.told])


def in_process(work: Callable[[], Any], answer: Path, *, kill_after: float | None = None) -> End:
    """Do ``work`` in a process of its own, and kill that ``kill_after`` seconds, if any.

    ``answer`` is a file for what it returns.
    """
    answer.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _child(work, answer)
    if kill_after is not None:
        _wait(child, kill_after)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)
    if not answer.exists():
        return End(killed=True)
    return End(**json.loads(answer.read_text(encoding="utf-8")))


def _wait(child: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        time.sleep(0.002)


def _child(work: Callable[[], Any], answer: Path) -> None:
    end = End()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", AdrpoWarning)
            try:
                end.result = work()
            except AdrpoError as error:
                end.error = str(error)
            except Exception as error:
                # As the command line does.
                end.error = disk_fault(error) or ""
                end.traceback = "" if end.error else traceback.format_exc()
            except BaseException:
                end.traceback = traceback.format_exc()
        end.told = [str(note.message) for note in told if issubclass(note.category, AdrpoWarning)]
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        partial = answer.with_suffix(".partial")
        partial.write_text(json.dumps(end.__dict__), encoding="utf-8")
        os.rename(partial, answer)
    finally:
        os._exit(0)


@contextlib.contextmanager
def counted() -> Iterator[list[str]]:
    """A block whose disk operations are listed by name."""
    names: list[str] = []
    with _at_each(names.append):
        yield names


@contextlib.contextmanager
def killed_at(number: int) -> Iterator[None]:
    """A block that is killed before its ``number``-th disk operation."""
    with _at_operation(number, lambda: os.kill(os.getpid(), signal.SIGKILL)):
        yield


@contextlib.contextmanager
def full_from(number: int, size: int) -> Iterator[None]:
    """A block in which no file may grow beyond ``size`` bytes from its ``number``-th disk
    operation on, as on a full disk."""
    limits = (size, resource.RLIM_INFINITY)
    with _at_operation(number, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)):
        yield


@contextlib.contextmanager
def _at_operation(number: int, act: Callable[[], None]) -> Iterator[None]:
    names: list[str] = []

    def note(name: str) -> None:
        names.append(name)
        if len(names) == number:
            act()

    with _at_each(note):
        yield


@contextlib.contextmanager
def _at_each(note: Callable[[str], None]) -> Iterator[None]:
    originals = [(owner, name, getattr(owner, name)) for owner, name in OPERATIONS]

    def wrapped(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*arguments: Any, **named: Any) -> Any:
            writes = name != "open" or any(
                letter in str(named.get("mode", "".join(map(str, arguments[1:2]))))
                for letter in "wax"
            )
            if writes:
                note(name)
            return original(*arguments, **named)

        return noting

    for owner, name, original in originals:
        setattr(owner, name, wrapped(name, original))
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)

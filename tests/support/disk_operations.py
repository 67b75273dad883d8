"""The disk operations of a block: killed at one of them, or watched for what is not on disk yet."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

Operations = Sequence[tuple[Any, str]]

OPERATIONS: Operations = (
    (os, "fsync"),
    (os, "replace"),
    (Path, "mkdir"),
    (Path, "rename"),
    (torch, "save"),
    (shutil, "rmtree"),
)
"""Owner and name of the functions by which a run is written."""


class Killed(BaseException):
    """Stands for a kill: nothing in the package may catch it."""


def kill_at(
    call: int, monkeypatch: pytest.MonkeyPatch, operations: Operations = OPERATIONS
) -> Callable[[], int]:
    """Make the ``call``-th of the ``operations`` the last, done by half where it can be; returns a
    function that counts them."""
    count = 0

    def wrap(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == call:
                if owner is torch:
                    Path(args[1]).write_bytes(b"half a file")
                elif name == "rmtree" and Path(args[0]).is_dir():
                    sorted(Path(args[0]).iterdir())[0].unlink()
                raise Killed
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    for owner, name in operations:
        wrap(owner, name)
    return lambda: count


@contextmanager
def renamed_when_synced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A block in which whatever is renamed must be on disk with all that is in it: fsync has been
    called for it since it was last changed. Yields the names that were renamed."""
    synced: dict[int, tuple[int, int]] = {}
    renamed: list[str] = []
    fsync, replace, rename = os.fsync, os.replace, Path.rename

    def note(descriptor: int) -> None:
        fsync(descriptor)
        found = os.fstat(descriptor)
        synced[found.st_ino] = (found.st_mtime_ns, found.st_size)

    def check(source: Path) -> None:
        for path in (source, *source.rglob("*")):
            found = path.stat()
            assert synced.get(found.st_ino) == (found.st_mtime_ns, found.st_size), (
                f"{path} was renamed with {source.name} and is not on disk"
            )
        renamed.append(source.name)

    def replaced(source: Any, target: Any) -> None:
        if not Path(target).name.endswith(".replaced"):  # what is there stands aside
            check(Path(source))
        replace(source, target)

    def moved(source: Path, target: Any) -> Path:
        if not Path(target).name.startswith(".partial-") and "replaced" not in str(target):
            check(source)
        return rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", note)
        patch.setattr(os, "replace", replaced)
        patch.setattr(Path, "rename", moved)
        yield renamed

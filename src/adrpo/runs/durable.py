"""Writing so that a kill or a power cut leaves the old file or the new one, never a part."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Replace the file ``path`` by ``content``, all at once.

    Raises OSError, with the file's name also where the system gives none, as on a full disk.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside ``path`` to fill, which takes its place at the end of the block.

    The old folder stands aside until the new one is there: a kill between the two renames leaves
    no ``path``, but both contents, under hidden names that the next call removes.
    """
    partial = path.with_name(f".{path.name}.partial")
    replaced = path.with_name(f".{path.name}.replaced")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    _sync_content(partial)
    if path.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        os.replace(path, replaced)
    os.replace(partial, path)
    sync_folder(path.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove the folder ``path``, if it is there; a kill leaves it whole or not at all."""
    if path.exists():
        doomed = path.with_name(f".{path.name}.replaced")
        shutil.rmtree(doomed, ignore_errors=True)
        os.replace(path, doomed)
        sync_folder(path.parent)
        shutil.rmtree(doomed)


def clear_partial(folder: Path) -> None:
    """Remove what a kill left of the writing of files and folders in ``folder``."""
    for leftover in [*folder.rglob(".*.partial"), *folder.rglob(".*.replaced")]:
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _sync_content(folder: Path) -> None:
    """Wait until all that is in ``folder`` is on disk."""
    for entry in folder.rglob("*"):
        if entry.is_dir():
            sync_folder(entry)
        else:
            sync_file(entry)
    sync_folder(folder)


def sync_file(path: Path) -> None:
    """Wait until the content of the file ``path`` is on disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until the names in the folder ``path`` are on disk; a rename is lost otherwise."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

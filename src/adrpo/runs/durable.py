"""Writing so that a kill or a power cut leaves the old file or the new one, never a part."""

import os
from pathlib import Path


def write_durably(path: Path, content: bytes) -> None:
    """Replace the file ``path`` by ``content``, all at once."""
    temporary = path.with_name(f".{path.name}.partial")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


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

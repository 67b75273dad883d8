"""Manifests: the checksum of each file of a folder, written last, by which damage is found.

A folder with one was written to its end. Checkpoints, ``final/``, ``best/`` and ``start/`` of a run
have one each, and the run's own folder has one of the files that its results rest on
(:mod:`adrpo.runs.record`).
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adrpo.errors import AdrpoError
from adrpo.runs.durable import replace_folder, sync_file, sync_folder, write_durably

FILE = "manifest.json"
SUMS = "sha256"
"""Key of a manifest: name of a file, from the folder on -> its checksum."""

CARD = "README.md"
"""File with words on weights that lie beside it, which their user may go on writing."""


def checksum(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal digits; AdrpoError where it can't be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AdrpoError(
            f"{path}: expected a file that can be read; {error.strerror}; mend its permissions or "
            f"its disk"
        ) from None


def seal(folder: Path, **facts: Any) -> None:
    """Write the manifest of ``folder``, with ``facts`` in it: all files are on disk before it
    appears, and it appears all at once."""
    sums = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        elif path != folder / FILE:
            sync_file(path)
            sums[path.relative_to(folder).as_posix()] = checksum(path)
    sync_folder(folder)
    write_durably(folder / FILE, (json.dumps({**facts, SUMS: sums}) + "\n").encode())


@contextmanager
def sealed_folder(path: Path) -> Iterator[Path]:
    """``replace_folder`` with a manifest."""
    with replace_folder(path) as partial:
        yield partial
        seal(partial)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of ``folder``; None where it has none.

    Raises AdrpoError where the file holds something else or can't be read.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_bytes())
    except OSError as error:
        raise AdrpoError(f"{path}: expected a file that can be read; {error.strerror}") from None
    except (RecursionError, ValueError):
        raise AdrpoError(f"{path}: expected JSON, received something else") from None
    sums = manifest.get(SUMS) if isinstance(manifest, dict) else None
    if not isinstance(sums, dict) or not all(isinstance(value, str) for value in sums.values()):
        raise AdrpoError(f"{path}: expected the sha256 of files, received {str(manifest)[:80]}")
    return manifest


def damage(
    folder: Path, *, looked_at: Callable[[str], bool] = lambda name: True, **facts: Any
) -> str | None:
    """The first fault of the files of ``folder``, None where all are as its manifest has them.

    Args:
        folder: with a manifest; without one, that is the fault.
        looked_at: chooses files by their names.
        facts: what the manifest must say beside the checksums.

    Raises:
        AdrpoError: a file is there and can't be read.
    """
    try:
        manifest = read_manifest(folder)
    except AdrpoError as error:
        return str(error)
    if manifest is None:
        return f"{folder / FILE}: expected the checksums of the folder, received none"
    for key, expected in facts.items():
        if manifest.get(key) != expected:
            return f"{folder / FILE}: expected {key} {expected}, received {manifest.get(key)}"
    for name, expected in manifest[SUMS].items():
        if not looked_at(name):
            continue
        path = folder / name
        if not path.is_file():
            return f"{path}: expected a file of sha256 {expected}, received none"
        if (actual := checksum(path)) != expected:
            return f"{path}: expected sha256 {expected}, received {actual}"
    return None


def check_weights(path: Path) -> bool:
    """Raise AdrpoError where the weights in ``path``, a folder or a file, are not those that its
    manifest knows; False where there is no manifest that knows them. A folder's CARD is not looked
    at."""
    folder = path if path.is_dir() else path.parent
    if not (folder / FILE).is_file():
        return False
    manifest = read_manifest(folder)
    if path.is_file() and (manifest is None or path.name not in manifest[SUMS]):
        return False

    def looked_at(name: str) -> bool:
        return name != CARD if path.is_dir() else name == path.name

    fault = damage(folder, looked_at=looked_at)
    if fault is not None:
        raise AdrpoError(
            f"{fault}; the weights are damaged or were changed: restore the file, or delete "
            f"{folder / FILE} to take them as they are"
        )
    return True

"""A disk that is full, read-only or broken: one line in the place of a library's traceback."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adrpo.errors import AdrpoError

SPACE = "free some space"
PERMISSIONS = "mend its permissions, or name another folder"
REASONS = {
    errno.ENOSPC: ("the disk is full", SPACE),
    errno.EDQUOT: ("the quota of the disk is used up", SPACE),
    errno.EFBIG: ("a file may grow no further there", "raise the limit (ulimit -f)"),
    errno.EROFS: ("the file system is read-only", "name another folder"),
    errno.EACCES: ("it may not be read or written", PERMISSIONS),
    errno.EPERM: ("it may not be read or written", PERMISSIONS),
    errno.EISDIR: ("a folder is in the place of a file", "move it away"),
    errno.ENOTDIR: ("a file is in the place of a folder", "move it away"),
    errno.EIO: ("the disk reports an error", "look after the disk"),
}
"""Number of an error of the system -> what it means, and what to do."""

_IN_TEXT = re.compile(r"\(os error (\d+)\)")
_OF_TORCH = ("unexpected pos", "PytorchStreamWriter")
"""Parts of the error of torch.save where a write fails; it tells neither the cause nor the file."""


def disk_fault(error: BaseException, folder: Path | None = None) -> str | None:
    """The refusal of a disk that ``error`` comes from, in one line; None for another error.

    ``folder`` is named where the error names no file.
    """
    found = _reason(error)
    if found is None:
        return None
    reason, way = found
    where = getattr(error, "filename", None) or folder
    place = f"{where}: " if where else ""
    return f"{place}expected a folder that can be written; {reason}; {way}"


@contextmanager
def resumable_writing(folder: Path) -> Iterator[None]:
    """A block in which a run is written into ``folder``: what a disk refuses is an AdrpoError that
    says how the run goes on."""
    try:
        yield
    except AdrpoError:
        raise
    except Exception as error:
        fault = disk_fault(error, folder)
        if fault is None:
            raise
        kept = f"what {folder} has is kept" if folder.is_dir() else f"{folder} was not begun"
        then = "go on with --resume" if (folder / "config.yaml").is_file() else "begin again"
        raise AdrpoError(f"{fault}; {kept}: then {then}") from error


def _reason(error: BaseException) -> tuple[str, str] | None:
    if isinstance(error, OSError) and error.errno in REASONS:
        return REASONS[error.errno]
    text = str(error)
    if (number := _IN_TEXT.search(text)) and int(number[1]) in REASONS:
        return REASONS[int(number[1])]
    if "inline_container.cc" in text and any(part in text for part in _OF_TORCH):
        return "a file could not be written to its end, as on a full disk", SPACE
    return None

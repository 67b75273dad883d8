"""Output folders that never overwrite another run."""

from itertools import count
from pathlib import Path

from adrpo.errors import AdrpoError


def free_folder(wanted: Path) -> Path:
    """``wanted`` where it is missing or empty, otherwise the first such ``wanted-2``, ``-3``, ...

    Nothing is created. Raises AdrpoError where ``wanted`` is a file.
    """
    if wanted.exists() and not wanted.is_dir():
        raise AdrpoError(
            f"output folder: expected a folder; received {wanted}, which is a file; choose "
            f"another --output-dir"
        )
    if _is_free(wanted):
        return wanted
    names = (wanted.with_name(f"{wanted.name}-{number}") for number in count(2))
    return next(name for name in names if _is_free(name))


def _is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))

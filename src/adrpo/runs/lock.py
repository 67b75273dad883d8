"""One process at a time in a folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adrpo.errors import AdrpoError


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold ``folder`` against every other process that asks for it so.

    The lock is the kernel's (flock) and on the folder itself: it leaves no file behind and ends
    with the process, however that ends.

    Raises:
        AdrpoError: another process holds the folder.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AdrpoError(
                f"{folder}: expected a folder that no other process works in; received one that "
                f"another adrpo holds; wait for it or stop it, or choose another --output-dir"
            ) from None
        yield
    finally:
        os.close(descriptor)

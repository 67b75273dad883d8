"""The traceback of an error, kept in a file for a report of a bug."""

import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

SHOWN = "ADRPO_TRACEBACK"
"""Environment variable that, set to 1, has tracebacks printed, too."""

_run: list[Path] = []


def note_run(folder: Path) -> None:
    """Keep a traceback in ``folder`` from now on, if a run is there by then."""
    _run[:] = [folder]


def keep_traceback(error: BaseException) -> str:
    """Write the traceback of ``error`` into a new file and return, in words, where it is.

    The file lies in the run's folder, else in the working folder, else in that for temporary
    files: the first that can be written. Secrets are left out of it.
    """
    from adrpo import __version__
    from adrpo.config.secrets import redacted

    text = redacted("".join(traceback.format_exception(error)))
    if os.environ.get(SHOWN) == "1":
        print(text, file=sys.stderr, end="")
    name = f"adrpo-traceback-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    runs = [run for run in _run if (run / "config.yaml").is_file()]
    for folder in (*runs, Path(), Path(tempfile.gettempdir())):
        try:
            with (folder / name).open("x", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"adrpo {__version__}\n{redacted(' '.join(sys.argv))}\n\n{text}")
        except OSError:
            continue
        return f"traceback in {folder / name}"
    return f"no folder can be written for the traceback ({SHOWN}=1 prints it)"

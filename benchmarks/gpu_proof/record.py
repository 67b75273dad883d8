"""The findings of a part so far, in a file that is whole at any time."""

import json
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adrpo.runs.durable import write_durably


class Record:
    """The results of one part, written again with each of them.

    ``found`` has ``stages`` (name -> values), ``checks`` (what, whether it holds, what was found),
    ``errors`` (stage -> the error's line and its calls), ``lines`` of the page, and ``skipped``
    with the reason where there was nothing to do.

    Args:
        path: the file.
        seconds: until the part is ended.
        lines: the page's lines of ``stages``, of which any may not be there yet.
    """

    def __init__(
        self,
        path: Path,
        seconds: float,
        lines: Callable[[dict[str, Any]], list[str]] = lambda stages: [],
    ) -> None:
        self.path, self.lines = path, lines
        self.end = time.monotonic() + seconds
        self.found: dict[str, Any] = {"stages": {}, "checks": [], "errors": {}}
        self._write()

    def _write(self) -> None:
        try:
            self.found["lines"] = self.lines(self.found["stages"])
        except Exception as error:  # the measurement is worth more than its lines
            self._failed("lines", error)
        write_durably(self.path, (json.dumps(self.found, indent=1) + "\n").encode())

    def left(self) -> float:
        """Seconds until the part is ended."""
        return self.end - time.monotonic()

    def put(self, stage: str, **values: Any) -> None:
        """Add ``values`` to those of ``stage``."""
        self.found["stages"].setdefault(stage, {}).update(values)
        self._write()

    def check(self, what: str, holds: bool, found: str) -> None:
        """Add a claim, and whether it holds."""
        self.found["checks"].append({"what": what, "holds": bool(holds), "found": found})
        self._write()

    def skip(self, reason: str) -> None:
        """There is nothing to do here."""
        self.found["skipped"] = reason
        self._write()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A block whose error is kept, and after which the part goes on: what comes next may still
        be found. The part has then failed."""
        started = time.monotonic()
        try:
            yield
        except Exception as error:
            self._failed(name, error)
        self.put(name, seconds_of_stage=round(time.monotonic() - started, 2))

    def _failed(self, name: str, error: Exception) -> None:
        kind, text = type(error).__name__, (str(error).splitlines() or [""])[0]
        self.found["errors"][name] = {
            "line": f"{kind}: {text}",
            "out_of_memory": "OutOfMemoryError" in kind,
            "calls": traceback.format_exc().splitlines()[-40:],
        }
        traceback.print_exc()

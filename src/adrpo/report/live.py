"""The report of runs while they go on, served to a browser on this machine."""

import contextlib
import hashlib
import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from adrpo.errors import AdrpoError, in_a_line
from adrpo.report.numbers import fixed
from adrpo.report.overview import check_runs, names_of, overview_context
from adrpo.report.page import page_context
from adrpo.report.render import render
from adrpo.report.source import Source
from adrpo.runs.announcer import duration
from adrpo.runs.directory import RunDirectory
from adrpo.runs.serving import BoundedServer, QuietHandler

HOST = "127.0.0.1"
PORT = 8765
REST = 2.0
"""Seconds between two pages at least."""

SHARE = 0.1
"""Share of the time that pages are made in: looking on takes little from a training beside it."""

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""Names under which a browser of this machine asks. A page of the web that has its own name lead
here asks under that one, and is refused."""


class LivePages:
    """The newest page of ``runs``, made anew where their files have changed."""

    def __init__(self, runs: Sequence[Path], *, rest: float = REST) -> None:
        check_runs(runs)
        self.runs = [RunDirectory.open(run) for run in runs]
        self.names = names_of(runs)
        self._rest = rest
        self._due = 0.0
        self._lock = threading.Lock()
        self._version, self._page, self._trouble = "", b"", ""
        self._sources: list[Source] = []

    def page(self) -> bytes:
        """The page, ``rest`` seconds behind the files or as long as keeps to SHARE; where these
        can't be read, the one before."""
        with self._lock:
            self._refresh()
            return self._page

    def state(self) -> dict[str, Any]:
        """The answer to a page that asks: the ``version`` of the newest one, a line on each of the
        ``runs``, and the ``trouble`` that there is in reading them, or nothing."""
        with self._lock:
            self._refresh()
            return {
                "version": self._version,
                "runs": [*self._lines()],
                "trouble": self._trouble,
            }

    def _refresh(self) -> None:
        version = _version(self.runs)
        due = time.monotonic() >= self._due
        if self._page and not self._trouble and (version == self._version or not due):
            return
        if self._trouble and not due:
            return
        begun = time.monotonic()
        try:
            sources = [Source.glance(run) for run in self.runs]
            if len(sources) == 1:
                text = render("report/page.html.j2", page_context(sources[0]), version=version)
            else:
                text = render("report/overview.html.j2", overview_context(sources), version=version)
        except Exception as error:  # told on the page: a training goes on, whatever can't be read
            self._trouble = str(error) if isinstance(error, AdrpoError) else in_a_line(error)
            if not self._page:
                self._version, self._page = "none", _without(self.names, self._trouble)
        else:
            self._version, self._page, self._trouble = version, text.encode(), ""
            self._sources = sources
        now = time.monotonic()
        self._due = now + (max(self._rest, (now - begun) / SHARE) if self._rest else 0.0)

    def _lines(self) -> Iterator[str]:
        """Step, time left, and age of the newest row, of each run."""
        for name, source in zip(self.names, self._sources, strict=False):
            run, planned = source.run, source.planned
            done = fixed(source.metrics[-1]["step"] if source.metrics else 0, 0)
            parts = [f"step {done}" + (f" of {fixed(planned, 0)}" if planned else "")]
            if run.final.is_dir() or not source.trains:
                parts = [f"finished after {done} steps" if source.trains else "evaluated"]
            else:
                if left := source.seconds_left():
                    parts.append(f"{duration(left)} left")
                with contextlib.suppress(OSError, ValueError):
                    newest = max(path.stat().st_mtime for path in _rows(run))
                    age = max(0.0, time.time() - newest)
                    parts.append(f"last row {duration(age)} ago")
            yield (f"{name}: " if len(self.runs) > 1 else "") + ", ".join(parts)


class LiveServer(BoundedServer):
    """Serves the report of ``runs`` on loopback while they go on.

    ``/`` is the page, which asks ``/state`` every other second whether there is a newer one.
    Nothing else is served, and only browsers of this machine are.
    """

    def __init__(self, runs: Sequence[Path], port: int = PORT, *, rest: float = REST) -> None:
        self.pages = LivePages(runs, rest=rest)
        try:
            super().__init__((HOST, port), LiveHandler, connections=16, seconds=60.0)
        except OSError as error:
            raise AdrpoError(
                f"--port: expected a free port; received {port} ({error.strerror}); name another, "
                f"or 0 for any"
            ) from None

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.server_address[1]}/"


class LiveHandler(QuietHandler):
    """One connection to a :class:`LiveServer`: one request and its answer."""

    server: LiveServer

    def do_GET(self) -> None:
        """Answer with the page or the state of the runs."""
        name = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        path = self.path.partition("?")[0]
        if name not in LOOPBACK:
            self.answer(403, b"expected a browser of this machine\n", "text/plain")
        elif path == "/":
            body = self.server.pages.page()
            self.answer(200, body, "text/html; charset=utf-8", Cache_Control="no-store")
        elif path == "/state":
            body = json.dumps(self.server.pages.state()).encode()
            self.answer(200, body, "application/json", Cache_Control="no-store")
        else:
            self.answer(404, b"expected / or /state\n", "text/plain")

    do_HEAD = do_GET


def make_live_server(runs: Sequence[str | Path], port: int = PORT) -> LiveServer:
    """A server of the report of ``runs`` that listens at once; ``port`` 0 takes a free one.

    ``server.url`` is the page's address, ``server.serve_until_stopped()`` serves until Ctrl-C.
    Raises AdrpoError for a folder that is no run, more than 8 runs, or a port that is taken.

        with make_live_server(["runs/a", "runs/b"]) as server:
            print(server.url)
            server.serve_until_stopped()
    """
    return LiveServer([Path(run) for run in runs], port)


def _rows(run: RunDirectory) -> list[Path]:
    """The files of rows that are there."""
    return [path for path in (run.metrics, run.evaluations) if path.exists()]


def _version(runs: Sequence[RunDirectory]) -> str:
    """A digest of when the files that a page shows were written, and of their sizes."""
    digest = hashlib.sha256()
    for run in runs:
        paths = [run.path, run.config, run.metrics, run.evaluations, run.final, run.samples]
        for path in [*paths, *sorted(run.samples.glob("*"))]:
            with contextlib.suppress(OSError):
                found = path.stat()
                digest.update(f"{path} {found.st_mtime_ns} {found.st_size}\n".encode())
    return digest.hexdigest()[:16]


def _without(names: Sequence[str], trouble: str) -> bytes:
    """The page of runs that can't be read."""
    context = {
        "name": ", ".join(names),
        "maker": "adrpo",
        "headline": [("The report can’t be made yet.", False)],
        "facts": [],
        "trouble": trouble,
    }
    return render("report/trouble.html.j2", context, version="none").encode()

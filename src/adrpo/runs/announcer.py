"""Lines of a work that goes on, where there is no terminal to draw a bar in."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from adrpo.runs.counting import so_far

SILENCE = 30.0
"""Seconds after which a log hears of a work again."""


class Announcer:
    """A line whenever one is said, and one after every ``silence`` seconds in which none was.

    A log of a long step, or of the evaluation of a large model, would else end for minutes.

    Args:
        text: what a line after a silence says.
        silence: seconds.
        aside: lines go to stderr, and else to stdout; each at once.
    """

    def __init__(
        self, text: Callable[[], str], *, silence: float = SILENCE, aside: bool = False
    ) -> None:
        self._text = text
        self._aside = aside
        self._silence = silence
        self._said = time.monotonic()
        self.last = ""
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="announcer", daemon=True)

    def __enter__(self) -> "Announcer":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()

    def say(self, line: str) -> None:
        """Print ``line`` now."""
        with self._lock:
            self._said, self.last = time.monotonic(), line
            print(line, file=sys.stderr if self._aside else sys.stdout, flush=True)

    def say_if_due(self) -> None:
        """Print the text where there was silence for long enough."""
        if time.monotonic() - self._said >= self._silence:
            self.say(self._text())

    def _watch(self) -> None:
        while not self._end.wait(self._silence / 10):
            self.say_if_due()


@contextmanager
def working(what: str, *, silence: float = SILENCE) -> Iterator[None]:
    """A block that may take long: a spinner beside ``what`` in a terminal, and else a line after
    every ``silence`` seconds; both with what is counted in the block (:mod:`adrpo.runs.counting`).

    It is on stderr, since stdout may be read by a program.
    """
    from rich.console import Console

    console, started = Console(stderr=True), time.monotonic()

    def text() -> str:
        seconds = duration(time.monotonic() - started)
        return ", ".join(filter(None, (what, so_far(), f"{seconds} so far")))

    if console.is_terminal:
        with console.status(_Current(text)):
            yield
        return
    with Announcer(text, silence=silence, aside=True):
        yield


class _Current:
    """A text for a terminal, made anew whenever it is drawn."""

    def __init__(self, text: Callable[[], str]) -> None:
        self._text = text

    def __rich__(self) -> str:
        return self._text()


def duration(seconds: float) -> str:
    """A length of time in the greatest unit that leaves a digit: 45 s, 12 min, 3.5 h.

    >>> [duration(seconds) for seconds in (45, 720, 12600)]
    ['45 s', '12 min', '3.5 h']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

"""Waits for what asynchronous rewards return, from code that is not asynchronous itself."""

import asyncio
import atexit
import functools
import inspect
import math
import os
import threading
import time
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


GRACE = 1.0
"""Seconds after which a call that is to end itself in its time is given up."""


class Blocked(Exception):
    """The outcome of a call that has not ended in its time, since the loop goes on no more."""


def outcomes(
    awaitables: Sequence[Awaitable[Any]], limits: Sequence[float | None] | None = None
) -> list[Any]:
    """The outcome of each of ``awaitables``: what it gave, or the exception that it raised.

    They run at the same time, in an event loop in a thread of its own: the caller may itself be
    in a loop that runs, as in a notebook. It is the same loop for all calls of a process, so that
    a client which a reward keeps open goes on working.

    Args:
        awaitables: awaited together.
        limits: seconds in which each ends itself, None for no limit. One that doesn't, since a
            call that never awaits holds up the loop, is ``Blocked``, and later calls have a loop
            of their own.
    """
    if not awaitables:
        return []
    limits = limits or [None] * len(awaitables)
    loop, begun = _event_loop(os.getpid()), time.monotonic()
    futures = [asyncio.run_coroutine_threadsafe(_outcome(each), loop) for each in awaitables]
    found: dict[int, Any] = {}
    try:
        # Those with a limit first: another one may wait for ever behind a loop that is held up.
        for place in sorted(range(len(futures)), key=lambda place: limits[place] or math.inf):
            limit = limits[place]
            left = None if limit is None else max(begun + limit + GRACE - time.monotonic(), 0.0)
            try:
                found[place] = futures[place].result(left)
            except TimeoutError:  # of the waiting: those inside are outcomes
                found[place] = Blocked()
                break
    except BaseException:
        for future in futures:
            future.cancel()
        raise
    if len(found) < len(futures):
        _event_loop.cache_clear()
        for future in futures:
            future.cancel()
    return [found.get(place, Blocked()) for place in range(len(futures))]


def awaited(value: Awaitable[T] | T) -> T:
    """``value`` itself or, where it is awaitable, what it gives; its exceptions are raised."""
    if not inspect.isawaitable(value):
        return value  # pyright: ignore[reportReturnType]
    (outcome,) = outcomes([value])
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


async def _outcome(awaitable: Awaitable[Any]) -> Any:
    try:
        return await awaitable
    except BaseException as error:
        # All of them: SystemExit would end the loop's thread, and leave the caller waiting.
        return error


@functools.cache
def _event_loop(process: int) -> asyncio.AbstractEventLoop:
    """The loop of ``process``: a fork has none of its parent's threads."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="adrpo-rewards", daemon=True).start()
    atexit.register(loop.call_soon_threadsafe, loop.stop)
    return loop

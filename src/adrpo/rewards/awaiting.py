"""Waits for what asynchronous rewards return, from code that is not asynchronous itself."""

import asyncio
import atexit
import functools
import inspect
import os
import threading
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def outcomes(awaitables: Sequence[Awaitable[Any]]) -> list[Any]:
    """The outcome of each of ``awaitables``: what it gave, or the exception that it raised.

    They run at the same time, in an event loop in a thread of its own: the caller may itself be
    in a loop that runs, as in a notebook. It is the same loop for all calls of a process, so that
    a client which a reward keeps open goes on working.
    """
    if not awaitables:
        return []
    waiting = asyncio.run_coroutine_threadsafe(_together(awaitables), _event_loop(os.getpid()))
    try:
        return waiting.result()
    except BaseException:
        waiting.cancel()
        raise


def awaited(value: Awaitable[T] | T) -> T:
    """``value`` itself or, where it is awaitable, what it gives; its exceptions are raised."""
    if not inspect.isawaitable(value):
        return value  # pyright: ignore[reportReturnType]
    (outcome,) = outcomes([value])
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


async def _together(awaitables: Sequence[Awaitable[Any]]) -> list[Any]:
    return await asyncio.gather(*(_outcome(awaitable) for awaitable in awaitables))


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

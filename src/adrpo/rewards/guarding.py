"""The calling of one reward, so that what it does to its arguments or its process stays its own."""

import asyncio
import copy
import os
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from PIL.Image import Image

from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.rewards.base import RewardTerm

OURS = "adrpo."
"""Beginning of the modules whose rewards leave their arguments as they are."""

_told: set[str] = set()


def call(term: RewardTerm, samples: Mapping[str, Sequence[Any]]) -> Any:
    """Values that the term's function returns for ``samples``.

    A function of the user's own gets copies: it may close, change or empty what it is given. The
    working folder is afterwards what it was; that it changed is told once. sys.exit in a reward is
    an error of the reward like any other.

    Raises AdrpoError where it takes longer than ``term.timeout`` seconds, and else what it raises.
    """
    own = samples if _is_ours(term.function) else _copies(samples)
    with _kept_folder(term.name):
        if term.timeout is None:
            return _without_exit(term.function, own)
        return _within(term, own)


def _within(term: RewardTerm, samples: Mapping[str, Sequence[Any]]) -> Any:
    """``_without_exit`` in a thread that is left behind where it takes too long."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((True, _without_exit(term.function, samples)))
        except BaseException as error:  # raised again below
            outcome.append((False, error))

    thread = threading.Thread(target=run, name=f"reward-{term.name}", daemon=True)
    thread.start()
    thread.join(term.timeout)
    if not outcome:
        raise late(term)
    returned, value = outcome[0]
    if returned:
        return value
    raise value


async def within(term: RewardTerm, answer: Awaitable[Any]) -> Any:
    """Values that ``answer`` of the term gives; AdrpoError where they take longer than its
    timeout."""
    limit = asyncio.timeout(term.timeout)
    try:
        async with limit:
            return await answer
    except TimeoutError:
        # A TimeoutError of its own is an error of the reward.
        if not limit.expired():
            raise
        raise late(term) from None
    except SystemExit as error:
        raise RuntimeError(f"it left by sys.exit({error.code!r})") from error


def late(term: RewardTerm) -> AdrpoError:
    """The error of a term that has given no values in its time."""
    return AdrpoError(
        f"reward {term.name!r}: expected values within {term.timeout:g} s, received none; the last "
        f"checkpoint is kept: mend the reward or raise its timeout, then go on with --resume"
    )


def _without_exit(function: Callable[..., Any], samples: Mapping[str, Sequence[Any]]) -> Any:
    try:
        return function(**samples)
    except SystemExit as error:
        raise RuntimeError(f"it left by sys.exit({error.code!r})") from error


@contextmanager
def _kept_folder(name: str) -> Iterator[None]:
    """The working folder as it was: paths of the run may be relative to it."""
    before = os.getcwd()
    try:
        yield
    finally:
        if not _is_here(before):
            os.chdir(before)
            if name not in _told:
                _told.add(name)
                warnings.warn(
                    f"the reward {name!r} changed the working folder, which is {before} again; "
                    f"open its files by absolute paths",
                    AdrpoWarning,
                    stacklevel=2,
                )


def _is_here(folder: str) -> bool:
    try:
        return os.getcwd() == folder
    except FileNotFoundError:  # it has removed the folder that it went to
        return False


def _is_ours(function: Any) -> bool:
    """True of a reward of this package, also with options bound to it."""
    function = getattr(function, "func", function)
    owner = function if hasattr(function, "__module__") else type(function)
    return str(owner.__module__).startswith(OURS)


def _copies(samples: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    return {name: [_copy(item) for item in values] for name, values in samples.items()}


def _copy(item: Any) -> Any:
    return item.copy() if isinstance(item, Image) else copy.deepcopy(item)

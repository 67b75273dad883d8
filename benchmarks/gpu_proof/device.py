"""The device that is proven, and the one place with calls that only CUDA has.

``Card`` is a GPU. ``Rehearsal`` is a CPU in its place, of whose times and bytes nothing is to be
concluded: it is there so that every line but those of ``Card`` has run before a card is at hand.
"""

import resource
import traceback
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol
from unittest import mock

import torch
from torch.profiler import ProfilerActivity

from tools.pretend_cuda import PretendCuda, Wait

WAITED = "called a synchronizing CUDA operation"
"""The warning of torch under ``torch.cuda.set_sync_debug_mode("warn")``; it says nothing of
``torch.cuda.synchronize``."""


class Device(Protocol):
    name: str
    """The device as ``model.device`` names it."""

    def facts(self) -> dict[str, Any]:
        """The facts that the page tells of the device."""
        ...

    def opened(self) -> AbstractContextManager[Any]:
        """While it is open, ``cuda`` is there."""
        ...

    def synchronise(self) -> None: ...

    def reset_peak(self) -> None: ...

    def peak(self) -> int:
        """The most bytes of tensors since ``reset_peak``; of the process on a CPU."""
        ...

    def waits(self) -> AbstractContextManager[list[Wait]]:
        """The list of each time that the host waited for the device in the block."""
        ...

    def activities(self) -> list[ProfilerActivity]: ...


class Card:
    """The first GPU."""

    name = "cuda"

    def facts(self) -> dict[str, Any]:
        found = torch.cuda.get_device_properties(0)
        return {
            "name": found.name,
            "memory_bytes": found.total_memory,
            "capability": f"{found.major}.{found.minor}",
            "processors": found.multi_processor_count,
        }

    def opened(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def synchronise(self) -> None:
        torch.cuda.synchronize()

    def reset_peak(self) -> None:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        return torch.cuda.max_memory_allocated()

    @contextmanager
    def waits(self) -> Iterator[list[Wait]]:
        found: list[Wait] = []
        synchronize = torch.cuda.synchronize

        def counted(*arguments: Any) -> None:
            found.append(here("synchronize"))
            synchronize(*arguments)

        # Switched on first: doing that warns as well.
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warned(found), mock.patch.object(torch.cuda, "synchronize", counted):
                yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def activities(self) -> list[ProfilerActivity]:
        return [ProfilerActivity.CPU, ProfilerActivity.CUDA]


class Rehearsal:
    """The CPU, which behaves as a GPU while it is ``opened``."""

    name = "cpu"

    def __init__(self) -> None:
        self.gpu: PretendCuda | None = None

    def facts(self) -> dict[str, Any]:
        return {"name": "rehearsed on a CPU", "memory_bytes": 0, "capability": "", "processors": 0}

    @contextmanager
    def opened(self) -> Iterator[None]:
        with (
            mock.patch.object(torch.cuda, "reset_peak_memory_stats", lambda *_: None),
            mock.patch.object(torch.cuda, "max_memory_allocated", lambda *_: self.peak()),
            PretendCuda() as self.gpu,
        ):
            self.name = "cuda"
            yield
        self.name, self.gpu = "cpu", None

    def synchronise(self) -> None:
        if self.gpu is not None:
            torch.cuda.synchronize()  # which counts

    def reset_peak(self) -> None:
        pass

    def peak(self) -> int:
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @contextmanager
    def waits(self) -> Iterator[list[Wait]]:
        """The waits of the CPU that behaves as a GPU, after one warning as torch's."""
        assert self.gpu is not None, "to be opened before"
        found: list[Wait] = []
        with warned(found):
            warnings.warn(WAITED, stacklevel=1)
        assert len(found) == 1, found
        found.clear()
        before = len(self.gpu.waits)
        yield found
        found += self.gpu.waits[before:]

    def activities(self) -> list[ProfilerActivity]:
        return [ProfilerActivity.CPU]


def here(why: str) -> Wait:
    """A wait at the call that is running."""
    stack = traceback.StackSummary.extract(traceback.walk_stack(None), lookup_lines=False)
    return Wait(why, tuple(reversed(stack)))


@contextmanager
def warned(found: list[Wait]) -> Iterator[None]:
    """Every warning of ``WAITED`` goes to ``found``, with the calls that led there; others are
    shown as ever."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        shown = warnings.showwarning

        def show(message: Any, *rest: Any, **named: Any) -> None:
            if WAITED in str(message):
                found.append(here("a value or a copy"))
            else:
                shown(message, *rest, **named)

        warnings.showwarning = show
        yield


def the_device(*, rehearse: bool) -> Device:
    return Rehearsal() if rehearse else Card()

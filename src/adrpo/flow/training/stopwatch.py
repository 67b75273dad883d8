"""The seconds of a step, part by part."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

PARTS = ("sampling", "scoring", "policy", "reference")


class Stopwatch:
    """Adds up the seconds of named parts of a step; what belongs to none of them is ``other``.

    On an accelerator each part waits for the device before it reads the clock, since kernels
    run behind the host.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self._started = self._now()

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time inside towards ``name``, one of :data:`PARTS`."""
        started = self._now()
        yield
        self._seconds[name] += self._now() - started

    def row(self) -> dict[str, float]:
        """``seconds_<part>`` and ``seconds_other`` since the stopwatch was made."""
        total = self._now() - self._started
        row = {f"seconds_{name}": seconds for name, seconds in self._seconds.items()}
        row["seconds_other"] = total - sum(self._seconds.values())
        row["seconds_step"] = total
        return row

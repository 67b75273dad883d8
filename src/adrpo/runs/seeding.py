"""Random numbers that a run can repeat: named streams, and the global generators' states."""

import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def generator(seed: int, *names: str | int) -> torch.Generator:
    """The CPU generator of the stream ``names``, at its start.

    The seed of the stream is a hash (SHA-256) of ``seed`` and ``names``: the same on every
    machine, and independent of which other streams are drawn from, in what order or how often.
    torch uses 32 bits of it, so that among n streams two coincide with probability n^2 / 2^33.

    Args:
        seed: the run's seed.
        names: what the numbers are for, e.g. ``generator(seed, "noise", step)``. 1 and "1" are
            different names.
    """
    for part in (seed, *names):
        if type(part) not in (int, str):
            raise TypeError(f"expected str or int as a stream's name, received {part!r}")
    digest = hashlib.sha256(json.dumps([seed, *names]).encode()).digest()
    return torch.Generator(device="cpu").manual_seed(int.from_bytes(digest[:4], "little"))


def seed_everything(seed: int) -> None:
    """Set Python's, NumPy's, torch's and every CUDA device's global generator."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def rng_state() -> dict[str, Any]:
    """The states of Python's, NumPy's, torch's and every CUDA device's global generator.

    Holds tensors, numbers, text and lists only: ``torch.load(weights_only=True)`` reads it back.
    """
    version, words, gauss = random.getstate()
    # legacy=True gives the tuple form, whose first item names the generator.
    name, keys, position, has_gauss, cached_gauss = np.random.get_state(legacy=True)
    return {
        "python": [version, list(words), gauss],
        "numpy": [
            str(name),
            torch.from_numpy(np.asarray(keys).astype(np.int64)),
            int(position),
            int(has_gauss),
            float(cached_gauss),
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_rng_state(state: dict[str, Any]) -> None:
    """Set the global generators to a state of :func:`rng_state`.

    States of CUDA devices that this machine does not have are left out.
    """
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached_gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached_gauss))
    torch.set_rng_state(state["torch"])
    devices: list[Tensor] = state["cuda"]
    for index, device_state in enumerate(devices[: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(device_state, index)


@contextmanager
def preserved_generators() -> Iterator[None]:
    """At the end of the block the global generators are as they were at its beginning."""
    state = rng_state()
    try:
        yield
    finally:
        restore_rng_state(state)

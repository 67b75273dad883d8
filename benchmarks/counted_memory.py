"""Bytes that torch has alive, counted on fake tensors or real ones, and tables of them.

Fake tensors have sizes and no values: every operation is dispatched, none is computed, so that
neither weights nor a GPU are needed.
"""

import json
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from adrpo.runs.environment import environment_record


class LiveBytes(TorchDispatchMode):
    """Bytes of the storages that are alive, of those that an operation returned or ``see`` saw."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()

    def see(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._forget, key, size)
        return tensor

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return tree_map_only(Tensor, self.see, func(*args, **(kwargs or {})))

    def added(self, work: Callable[[], Any]) -> int:
        """The greatest number of bytes alive during ``work``, over those alive before it."""
        before = self.peak = self.live
        work()
        return self.peak - before


def staying() -> AbstractContextManager[Any]:
    """While it is open no module is moved: PEFT moves an adapter to its layer's device, where it is
    already, which fake tensors refuse."""
    return mock.patch.object(nn.Module, "to", lambda module, *_, **__: module)


def to_markdown(results: Sequence[dict[str, Any]]) -> str:
    parts = list(results[0]["parts"])
    lines = [f"| recipe | {' | '.join(parts)} |", "|---|" + "---|" * len(parts)]
    for result in results:
        cells = [
            f"{row['counted'] / 1e9:.2f} / {row['estimated'] / 1e9:.2f}"
            for row in result["parts"].values()
        ]
        named = " ".join([f"`{result['recipe']}`", *(f"`{o}`" for o in result["overrides"])])
        lines.append(f"| {named} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write_results(folder: Path, results: Sequence[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    summary = {"recipes": results, "environment": environment_record()}
    text = json.dumps(summary, indent=1) + "\n"
    (folder / "summary.json").write_text(text, encoding="utf-8")
    (folder / "table.md").write_text(to_markdown(results), encoding="utf-8")

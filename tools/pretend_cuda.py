"""A CPU that behaves like a machine with a GPU, for tests of code that will run on one.

``with PretendCuda() as gpu:`` computes everything on the CPU and keeps, for each storage, whether
it would lie on the GPU. Inside,

- ``device="cuda"``, ``.to("cuda")`` and ``.cpu()`` move a tensor there and back, and ``.device``
  tells where it is;
- an operation on tensors of both devices is refused where CUDA refuses it;
- ``gpu.waits`` has an entry for each time that the host would wait for the GPU: a copy from or to
  pageable memory (but for one to the GPU with ``non_blocking=True``; one from it is refused with
  it), a number that is read (``.item()``, ``if tensor``), an operation whose result's size depends
  on values (``nonzero``, a mask as an index), ``torch.cuda.synchronize``.

What it doesn't know: kernels, memory, streams, generators of the GPU, and what libraries do when
``torch.cuda.is_available()``, which stays false.
"""

import traceback
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

GPU = torch.device("cuda", 0)
CPU = torch.device("cpu")

aten: Any = torch.ops.aten
_C: Any = torch._C
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
SIZED_BY_VALUES = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten.repeat_interleave.Tensor,
    aten._unique2.default,
}
"""Operations that wait for the values of their input."""


@dataclass(frozen=True)
class Wait:
    """One time that the host would wait: ``why``, and the calls that led there, outermost first."""

    why: str
    stack: tuple[traceback.FrameSummary, ...]


class PretendCuda:
    """The two devices while it is open; see the module."""

    def __init__(self) -> None:
        self.waits: list[Wait] = []
        self.at_work = False
        """Whether a call on tensors of the GPU is running, whose own new tensors lie there, too."""
        self._placed: set[int] = set()
        self._open = ExitStack()

    def __enter__(self) -> "PretendCuda":
        self._open.enter_context(
            mock.patch.object(torch.cuda, "synchronize", lambda *_: self.waited("synchronize"))
        )
        self._open.enter_context(_Placement(self))
        self._open.enter_context(_Devices(self))
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.close()

    def waited(self, why: str) -> None:
        frames = traceback.walk_stack(None)
        stack = traceback.StackSummary.extract(frames, lookup_lines=False)
        self.waits.append(Wait(why, tuple(reversed(stack))))

    def has(self, tensor: Tensor) -> bool:
        """True where ``tensor`` lies on the GPU."""
        return tensor.untyped_storage()._cdata in self._placed

    def place(self, tensor: Tensor) -> Tensor:
        """``tensor``, which lies on the GPU from now on."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._placed:
            self._placed.add(storage._cdata)
            weakref.finalize(storage, self._placed.discard, storage._cdata)
        return tensor

    def moved(
        self, tensor: Tensor, result: Tensor, device: torch.device, *, awaited: bool = True
    ) -> Tensor:
        """``result``, which is ``tensor`` or made of it, on ``device``; the host waits where it is
        ``awaited``."""
        if (device.type == "cuda") == self.has(tensor):
            return self.place(result) if self.has(tensor) else result
        # A copy of its own: the other device has other memory.
        copy = result.clone()
        if device.type == "cuda":
            if awaited:
                self.waited("copy to the GPU")
            return self.place(copy)
        if not awaited:
            raise RuntimeError(
                "expected a copy from the GPU that is awaited: its numbers come later"
            )
        self.waited("copy from the GPU")
        self._placed.discard(copy.untyped_storage()._cdata)
        return copy


def _is_gpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


class _Devices(TorchFunctionMode):
    """The answers to what Python code asks of devices."""

    def __init__(self, gpu: PretendCuda) -> None:
        super().__init__()
        self.gpu = gpu
        tensor: Any = Tensor
        self.asked: dict[Any, Callable[[Tensor], Any]] = {
            tensor.device.__get__: lambda _: GPU,
            tensor.is_cuda.__get__: lambda _: True,
            tensor.is_cpu.__get__: lambda _: False,
            tensor.get_device: lambda _: 0,
        }

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, gpu = dict(kwargs or {}), self.gpu
        if func in self.asked and gpu.has(args[0]):
            return self.asked[func](args[0])
        if func is Tensor.to:
            return self._to(args[0], args[1:], kwargs)
        if func in (Tensor.cuda, Tensor.cpu):
            return gpu.moved(args[0], args[0], GPU if func is Tensor.cuda else CPU)
        if func in (Tensor.numpy, Tensor.__array__) and gpu.has(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if func is Tensor.tolist and gpu.has(args[0]):
            gpu.waited("tolist")
        if "device" not in kwargs:
            return self._at_work(func, args, kwargs)
        wanted = kwargs["device"]
        generator = kwargs.get("generator")
        if generator is not None and _is_gpu(wanted) != _is_gpu(generator.device):
            raise RuntimeError(f"expected a generator of {wanted}, found one of {generator.device}")
        if _is_gpu(wanted):
            kwargs["device"] = CPU
            return tree_map_only(Tensor, gpu.place, func(*args, **kwargs))
        return func(*args, **kwargs)

    def _at_work(self, func: Any, args: Any, kwargs: Any) -> Any:
        gpu, before = self.gpu, self.gpu.at_work
        gpu.at_work = any(gpu.has(x) for x in tree_iter((args, kwargs)) if isinstance(x, Tensor))
        try:
            return func(*args, **kwargs)
        finally:
            gpu.at_work = before

    def _to(self, tensor: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        other = next(
            (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None
        )
        copy = kwargs.pop("copy", False)
        if other is not None:
            device, dtype, memory_format, unawaited = other.device, other.dtype, None, False
            device = GPU if self.gpu.has(other) else device
        else:
            device, dtype, unawaited, memory_format = _C._nn._parse_to(*args, **kwargs)
        if device is not None and "meta" in (device.type, tensor.device.type):
            return tensor.to(*args, copy=copy, **kwargs)
        more = {} if memory_format is None else {"memory_format": memory_format}
        result = tensor.to(dtype=dtype or tensor.dtype, copy=copy, **more)
        if device is None:
            return result
        return self.gpu.moved(tensor, result, device, awaited=not unawaited)


class _Placement(TorchDispatchMode):
    """The place of each operation's results, and what CUDA refuses."""

    def __init__(self, gpu: PretendCuda) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        gpu, kwargs = self.gpu, kwargs or {}
        tensors = [value for value in tree_iter((args, kwargs)) if isinstance(value, Tensor)]
        if not tensors and gpu.at_work:
            return tree_map_only(Tensor, gpu.place, func(*args, **kwargs))
        if not any(map(gpu.has, tensors)):
            return func(*args, **kwargs)
        if func is aten.copy_.default:
            if gpu.has(args[0]) != gpu.has(args[1]):
                gpu.waited("copy to the GPU" if gpu.has(args[0]) else "copy from the GPU")
            return func(*args, **kwargs)
        if func in INDEXING:
            self._check_index(func, args)
        else:
            self._check_same(func, tensors)
        if func in SIZED_BY_VALUES and kwargs.get("output_size") is None:
            gpu.waited(str(func))
        return tree_map_only(Tensor, gpu.place, func(*args, **kwargs))

    def _check_same(self, func: Any, tensors: Iterable[Tensor]) -> None:
        if any(x.dim() > 0 and not self.gpu.has(x) for x in tensors):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found cuda:0 and cpu ({func})"
            )

    def _check_index(self, func: Any, args: Any) -> None:
        gpu, (tensor, indices, *values) = self.gpu, args
        found = [index for index in indices if index is not None]
        if not gpu.has(tensor) and any(map(gpu.has, found)):
            raise IndexError("indices should be either on cpu or on the same device as the indexed")
        if values:
            self._check_same(func, [tensor, values[0]])
            if len(found) == 1 and found[0].dtype == torch.bool and values[0].numel() == 1:
                return  # a masked fill
        for index in found:
            if not gpu.has(index):
                gpu.waited("copy to the GPU")
            if index.dtype in (torch.bool, torch.uint8):
                gpu.waited("a mask as an index")


def places(waits: Iterable[Wait], folder: str) -> Counter[tuple[str, str, int]]:
    """Number of ``waits`` by file, function and line of the innermost call in ``folder``."""
    found: Counter[tuple[str, str, int]] = Counter()
    for wait in waits:
        inside: Iterator[Any] = (f for f in reversed(wait.stack) if folder in f.filename)
        frame = next(inside, wait.stack[-1])
        found[frame.filename.partition(folder)[2], frame.name, frame.lineno or 0] += 1
    return found

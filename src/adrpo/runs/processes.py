"""The processes that train one model together, as `accelerate launch` or torchrun starts them.

Every process holds the whole model, or with FSDP2 or ZeRO-3 a shard of the frozen base, and does a
share of each batch. Decisions are made on values gathered from all processes, so that all decide
alike. With one process its share is everything, and ``gather`` returns its input.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NoReturn, TypeVar, overload

import torch
from torch import Tensor, nn

from adrpo.errors import AdrpoError

T = TypeVar("T")

Engine = Literal["FSDP2", "ZeRO-3"]
"""Engines that leave each process a shard of the frozen base."""

UNSUPPORTED = {
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}
"""Variables by which `accelerate launch` asks for another engine -> its name."""

FSDP_VARIABLES = {
    "FSDP_VERSION": ("fsdp_version", "2"),
    "FSDP_OFFLOAD_PARAMS": ("fsdp_offload_params", "false"),
    "FSDP_RESHARD_AFTER_FORWARD": ("fsdp_reshard_after_forward", "true"),
    "FSDP_ACTIVATION_CHECKPOINTING": ("fsdp_activation_checkpointing", "false"),
}
"""Variables of FSDP -> their key in accelerate's configuration, and the value that is supported."""

DEEPSPEED_VARIABLES = {
    "ACCELERATE_DEEPSPEED_CONFIG_FILE": ("deepspeed_config_file", "none"),
    "ACCELERATE_DEEPSPEED_ZERO_STAGE": ("zero_stage", "3"),
    "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": ("offload_param_device", "none"),
    "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": ("offload_optimizer_device", "none"),
}
"""Variables of DeepSpeed -> their key in accelerate's configuration, and the supported value."""

ASKED_BY: dict[str, tuple[Engine, dict[str, tuple[str, str]], str]] = {
    "ACCELERATE_USE_FSDP": ("FSDP2", FSDP_VARIABLES, "fsdp2.yaml"),
    "ACCELERATE_USE_DEEPSPEED": ("ZeRO-3", DEEPSPEED_VARIABLES, "deepspeed-zero3.yaml"),
}
"""Variables by which `accelerate launch` asks for shards -> who makes them, the variables of that
engine, and the configuration that is shipped for it."""


@dataclass(frozen=True)
class Share:
    """The consecutive rows ``start`` ... ``stop`` - 1 of a batch of ``total`` rows."""

    start: int
    stop: int
    total: int

    def __len__(self) -> int:
        return self.stop - self.start

    @overload
    def of(self, batch: Tensor) -> Tensor: ...
    @overload
    def of(self, batch: Sequence[T]) -> Sequence[T]: ...
    def of(self, batch: Any) -> Any:
        """This share's rows of ``batch``, which has all of them."""
        if len(batch) != self.total:
            raise ValueError(f"expected a batch of {self.total} rows, received {len(batch)}")
        return batch[self.start : self.stop]

    def times(self, each: int) -> "Share":
        """The same share of a batch with ``each`` rows in the place of every one."""
        return Share(self.start * each, self.stop * each, self.total * each)


class _KnownToAll(AdrpoError):
    """An error of one process, or of several, that all have been told."""


@dataclass(frozen=True)
class Processes:
    """This process, of ``rank`` among ``count``.

    ``gather`` and what is built on it are collective: all processes call them in the same order,
    or one of them waits for ever. So a branch with one of them inside is taken by all or by none.

    ``engine``, where there is one, leaves each a part of the frozen base, and every evaluation of
    the network gathers the rest, so that they are collective as well.
    """

    rank: int = 0
    count: int = 1
    engine: Engine | None = None

    @property
    def sharded(self) -> bool:
        """True where each process holds a part of the frozen base only."""
        return self.engine is not None

    @property
    def is_main(self) -> bool:
        """True for the process that writes the run's folder and speaks to the user."""
        return self.rank == 0

    def shares(self, total: int, what: str) -> list[Share]:
        """The share of each process; two differ by one row at most, and by none with an ``engine``.

        Raises AdrpoError where there are too few rows, or no equal shares; ``what`` names the rows.
        """
        if total < self.count:
            raise AdrpoError(
                f"{what}: expected at least one for each of {self.count} processes; received "
                f"{total}; start fewer processes"
            )
        if self.sharded and total % self.count:
            raise AdrpoError(
                f"{what}: expected a multiple of {self.count}, the number of processes, with "
                f"{self.engine}, under which all make the same network calls; received {total}"
            )
        ends = [total * rank // self.count for rank in range(self.count + 1)]
        return [Share(start, stop, total) for start, stop in pairwise(ends)]

    def share(self, total: int, what: str) -> Share:
        """The share of this process; as ``shares``."""
        return self.shares(total, what)[self.rank]

    def leave(self) -> None:
        """Part from the other processes, after which nothing can be gathered."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().destroy_process_group()

    def gather(self, value: T) -> list[T]:
        """The value that each process gave, in their order. A tensor inside has to be on the CPU.

        Raises the AdrpoError that another process failed with inside ``failing_together``.
        """
        if self.count == 1:
            return [value]
        return self._exchange(value, None)

    def gather_rows(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in their order, on the device of ``rows``."""
        if self.count == 1:
            return rows
        return torch.cat(self.gather(rows.detach().cpu())).to(rows.device)

    def from_main(self, decide: Callable[[], T]) -> T:
        """The main process's decision, for all; the others don't call ``decide``."""
        return self.gather(decide() if self.is_main else None)[0]  # pyright: ignore

    def wait(self) -> None:
        """Go on when all processes have come here."""
        self.gather(None)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of the processes, in one all-reduce of all ``parameters``.

        A parameter without a gradient on all processes is left without one.
        """
        if self.count == 1:
            return
        trained = list(parameters)
        there = [float(parameter.grad is not None) for parameter in trained]
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        parts.append(torch.tensor(there, device=trained[0].device))
        total = torch.cat([part.detach().flatten() for part in parts])
        torch.distributed.all_reduce(total)
        *sums, anywhere = total.split([part.numel() for part in parts])
        for parameter, value, found in zip(trained, sums, anywhere.tolist(), strict=True):
            parameter.grad = value.view_as(parameter) if found else None

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """An AdrpoError of one process inside is raised by all.

        The process that fails says so in place of what the others are waiting for: each meets
        the error at its next ``gather``, and at the end of the block at the latest. A block inside
        another one, which has told it, tells it once.
        """
        try:
            yield
            self.wait()
        except _KnownToAll:
            raise
        except AdrpoError as error:
            if self.count == 1:
                raise
            self._exchange(None, str(error))
            raise _KnownToAll(str(error)) from error

    def _exchange(self, value: Any, failure: str | None) -> list[Any]:
        answers = self._all_gather((value, failure))
        if failure is None:
            for _, other in answers:
                if other is not None:
                    raise _KnownToAll(other)
        return [value for value, _ in answers]

    def _all_gather(self, item: Any) -> list[Any]:
        from accelerate.utils import gather_object

        return gather_object([item])


ALONE = Processes()
"""One process."""


def join_processes(device: str) -> Processes:
    """This process among those that the launcher started; ``device`` as ``model.device``.

    On GPUs each process gets one of its node, and they talk by NCCL; on the CPU by Gloo.

    Raises AdrpoError where the launcher asks for an engine or a precision that flow models are not
    trained with here (docs/use/scale-out.md), or where several processes would share a device.
    """
    if "WORLD_SIZE" not in os.environ:  # started by no launcher
        return ALONE
    for variable, name in UNSUPPORTED.items():
        if _is_on(variable):
            raise AdrpoError(
                f"accelerate launch: expected data parallelism, FSDP2 or DeepSpeed; received "
                f"{name}; use recipes/accelerate/ddp.yaml (docs/use/scale-out.md)"
            )
    engine = _asked_engine()
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision != "no":
        raise AdrpoError(
            f"accelerate launch: expected --mixed_precision no; received {precision}; the type "
            f"of the base weights is model.dtype, and the adapter is float32"
        )
    count = launched_processes()
    if count == 1:
        return ALONE
    if device not in ("auto", "cpu", "cuda"):
        raise AdrpoError(
            f"model.device: expected auto, cpu or cuda with {count} processes, which take a GPU "
            f"each; received {device}"
        )
    # Its functions have the group of all processes, as it is when it is imported, as a default
    # argument. Imported later, by diffusers, it would keep the group past ``Processes.leave``, and
    # a thread of Gloo that still frees a tensor while the interpreter ends aborts the process.
    import torch.distributed.nn
    from accelerate import PartialState

    on_cpu = device == "cpu" or not torch.cuda.is_available()
    if on_cpu:  # DeepSpeed would choose a GPU that is there
        os.environ["DS_ACCELERATOR"] = "cpu"
    state = PartialState(cpu=on_cpu)
    return Processes(rank=state.process_index, count=state.num_processes, engine=engine)


def _asked_engine() -> Engine | None:
    """The sharding engine that the launcher requests, or None.

    Raises AdrpoError for settings of it that are not supported.
    """
    for asks, (engine, variables, shipped) in ASKED_BY.items():
        if not _is_on(asks):
            continue
        for variable, (key, expected) in variables.items():
            received = os.environ.get(variable, expected)
            if received.lower() != expected:
                raise AdrpoError(
                    f"accelerate launch: expected {key}: {expected}; received {received}; use "
                    f"recipes/accelerate/{shipped} (docs/use/scale-out.md)"
                )
        return engine
    return None


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() in ("true", "1")


def end_process(code: int) -> NoReturn:
    """End this process, which a launcher started, without the interpreter's own last steps.

    Gloo's threads go on for as long as anything refers to their group, and FSDP2 and DeepSpeed keep
    references past ``Processes.leave`` that nothing public clears. A thread that frees a tensor
    while the interpreter ends would abort the process: a run that is complete would have failed.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def launched_processes() -> int:
    """Number of processes that the launcher started, this one included."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_rank() -> int:
    """Rank of this process among those that the launcher started."""
    return int(os.environ.get("RANK", "0"))

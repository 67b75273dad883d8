"""A frozen transformer in shards, one on each process; what is added to it later stays whole.

So an adapter is made of plain tensors: its gradients are summed as without shards
(``Processes.sum_gradients``), and optimizer, checkpoints and files know nothing of an engine.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from adrpo.runs.processes import Engine

ZERO_3: dict[str, Any] = {
    "zero_optimization": {
        "stage": 3,
        # It would replace torch's linear function by one that rounds otherwise, in all the process.
        "memory_efficient_linear": False,
    },
    # DeepSpeed wants one; no batch passes through its engine.
    "train_micro_batch_size_per_gpu": 1,
}
"""DeepSpeed's configuration; what it leaves out is DeepSpeed's default."""


def shard_by_fsdp2(transformer: nn.Module, device: torch.device) -> Any:
    """PyTorch's ``fully_shard``, which gathers a block's parameters while it computes.

    All processes of the default group call it. Returns the transformer, which gathers by itself.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for part in transformer.children():
        if isinstance(part, nn.ModuleList):
            for block in part:
                fully_shard(block, mesh=mesh)
    # By default the outermost parameters stay whole until the backward pass; saving the adapter in
    # one process would shard them again there, and its next call alone would gather them.
    return fully_shard(transformer, mesh=mesh, reshard_after_forward=True)


def shard_by_zero_3(transformer: nn.Module, device: torch.device) -> Any:
    """DeepSpeed's ZeRO-3 without its optimizer: a layer's parameters are gathered as it computes.

    Small parameters stay whole, and some stay until they are needed again, as DeepSpeed's defaults
    have it; those of the first block stay after a backward pass, which does not reach its input.

    All processes of the default group call it, with ``device`` as DeepSpeed chooses it. Returns
    what gathers, by hooks on the modules of ``transformer``.
    """
    import deepspeed  # pyright: ignore[reportMissingImports]

    # Parameter by parameter; ``initialize`` alone would move all of them to the device before.
    deepspeed.zero.Init(module=transformer, config_dict_or_path=ZERO_3)
    for buffer in transformer.buffers():
        buffer.data = buffer.data.to(device)
    engine, *_ = deepspeed.initialize(model=transformer, config=ZERO_3)
    return engine


SHARD_BY: dict[Engine, Callable[[nn.Module, torch.device], Any]] = {
    "FSDP2": shard_by_fsdp2,
    "ZeRO-3": shard_by_zero_3,
}
"""Engine -> what leaves this process its shard of a transformer, on a device.

The transformer may lie on the CPU; no more than a block of it is whole on the device at a time.
What is returned is to be kept as long as the transformer."""

"""FSDP2 for a frozen transformer with an adapter: the base is sharded, the adapter is not."""

import torch
from torch import nn


def shard_frozen(transformer: nn.Module, device: torch.device) -> None:
    """Shard the frozen parameters of ``transformer`` over all processes, on ``device``.

    A block's are gathered for the time that it computes. The trainable ones, small as an adapter
    is, stay plain tensors on every process: their gradients are summed as without shards
    (``Processes.sum_gradients``), and optimizer, checkpoints and files know nothing of FSDP.

    ``transformer`` may lie on the CPU; one block at a time is whole on ``device``.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    trained = {parameter for parameter in transformer.parameters() if parameter.requires_grad}
    for parameter in trained:
        parameter.data = parameter.data.to(device)
    for part in transformer.children():
        if isinstance(part, nn.ModuleList):
            for block in part:
                fully_shard(block, mesh=mesh, ignored_params=trained)
    # By default the outermost parameters stay whole until the backward pass; saving the adapter in
    # one process would shard them again there, and its next call alone would gather them.
    fully_shard(transformer, mesh=mesh, ignored_params=trained, reshard_after_forward=True)

"""Tensors on their way to a GPU."""

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on ``device``, without the host waiting for a GPU.

    ``Tensor.to`` waits until the GPU has done all that was asked of it before, unless it is told
    not to. On the way to a GPU that is safe: what lies in pageable memory is staged before the call
    returns. On the way back the host would read numbers that have not come: such a copy waits.
    """
    return tensor.to(device, non_blocking=device.type == "cuda")

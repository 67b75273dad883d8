"""NormalFloat in 4 bits, written down from its paper: the yardstick of what bitsandbytes holds."""

import torch
from torch import Tensor

# Dettmers et al., arXiv 2305.14314, appendix E: quantiles of a Gaussian, scaled to [-1, 1].
LEVELS = torch.tensor([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
])  # fmt: skip
BLOCK = 64


def rounded(weight: Tensor) -> Tensor:
    """``weight`` with each number at the nearest level, times the largest of its 64."""
    blocks = weight.float().flatten().reshape(-1, BLOCK)
    scale = blocks.abs().amax(dim=1, keepdim=True)
    nearest = (blocks.unsqueeze(-1) / scale.unsqueeze(-1) - LEVELS).abs().argmin(-1)
    return (LEVELS[nearest] * scale).reshape(weight.shape)

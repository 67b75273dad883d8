"""Latents as the tokens of a transformer that takes 2x2 patches of them."""

import torch
from torch import Tensor

from adrpo.flow.models.conditioning import Conditioning


def pack(x: Tensor) -> Tensor:
    """[batch, channels, height, width] -> [batch, height / 2 * width / 2, channels * 4].

    Tokens go row by row; a token's elements channel by channel, and in a channel row by row.
    """
    n, channels, height, width = x.shape
    patches = x.reshape(n, channels, height // 2, 2, width // 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(n, height * width // 4, channels * 4)


def unpack(tokens: Tensor, shape: tuple[int, ...]) -> Tensor:
    """[batch, tokens, channels * 4] -> [batch, *shape]. Inverse of ``pack``."""
    channels, height, width = shape
    patches = tokens.reshape(len(tokens), height // 2, width // 2, channels, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), channels, height, width)


def with_original(tokens: Tensor, conditioning: Conditioning, count: int | None = None) -> Tensor:
    """``tokens`` [batch, tokens, dim] of a latent and, behind them, ``count`` of the picture that
    is edited, None as many; as they are where ``conditioning`` has none."""
    original = vars(conditioning).get("original")
    if original is None:
        return tokens
    count = tokens.shape[1] if count is None else count
    return torch.cat([tokens, original[:, :count].to(tokens)], dim=1)

"""The use of diffusers' autoencoders that several families share."""

from typing import Any

import torch
from torch import Tensor


def decode_kl(vae: Any, x_1: Tensor) -> Tensor:
    """Pixels in [-1, 1] of latents x_1 = (z - shift) scale, the inverse of ``encode_kl``."""
    latents = x_1 / vae.config.scaling_factor + vae.config.shift_factor
    return vae.decode(latents.to(vae.dtype), return_dict=False)[0]


def encode_kl(vae: Any, pixels: Tensor) -> Tensor:
    """x_1 = (z - shift) scale in float32, z the mode of the posterior of ``pixels``."""
    posterior = vae.encode(pixels).latent_dist
    return (posterior.mode().float() - vae.config.shift_factor) * vae.config.scaling_factor


def decode_frame(vae: Any, x_1: Tensor) -> Tensor:
    """Pixels in [-1, 1] of latents x_1 = (z - mean) / std by an autoencoder of videos, whose first
    frame is the image; the inverse of ``encode_frame``."""
    mean, std = _latent_statistics(vae)
    latents = (x_1 * std.to(x_1) + mean.to(x_1)).to(vae.dtype)
    return vae.decode(latents[:, :, None], return_dict=False)[0][:, :, 0]


def encode_frame(vae: Any, pixels: Tensor) -> Tensor:
    """x_1 = (z - mean) / std in float32, z the mode of the posterior of a video of one frame."""
    mean, std = _latent_statistics(vae)
    latents = vae.encode(pixels[:, :, None]).latent_dist.mode()[:, :, 0].float()
    return (latents - mean.to(latents)) / std.to(latents)


def _latent_statistics(vae: Any) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the latents' channels, [channels, 1, 1] each."""
    config = vae.config
    return (
        torch.tensor(config.latents_mean).reshape(-1, 1, 1),
        torch.tensor(config.latents_std).reshape(-1, 1, 1),
    )

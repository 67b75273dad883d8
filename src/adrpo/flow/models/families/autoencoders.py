"""The use of diffusers' AutoencoderKL that several families share."""

from typing import Any

from torch import Tensor


def decode_kl(vae: Any, x_1: Tensor) -> Tensor:
    """Pixels in [-1, 1] of latents x_1 = (z - shift) scale, the inverse of ``encode_kl``."""
    latents = x_1 / vae.config.scaling_factor + vae.config.shift_factor
    return vae.decode(latents.to(vae.dtype), return_dict=False)[0]


def encode_kl(vae: Any, pixels: Tensor) -> Tensor:
    """x_1 = (z - shift) scale in float32, z the mode of the posterior of ``pixels``."""
    posterior = vae.encode(pixels).latent_dist
    return (posterior.mode().float() - vae.config.shift_factor) * vae.config.scaling_factor

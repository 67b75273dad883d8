# diffusers' and transformers' hints are narrower than what these classes take.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""Trains the autoencoder of the embedded pipeline: 64x64 RGB <-> 4x16x16 latents.

``python -m tools.embedded vae --output DIR``. Loss: L1 + 4 MSE between picture and
reconstruction, plus ``KL_WEIGHT`` times the mean KL of the latents to the standard normal.
The scaling and shift factors are then measured, so that latents have mean 0 and variance 1.
"""

import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from adrpo.embedded.scenes import sample_split
from tools.embedded.batches import pictures

KL_WEIGHT = 2e-4
BATCH = 32
LEARNING_RATE = 2e-3


def encode(vae: AutoencoderKL, images: Tensor) -> DiagonalGaussianDistribution:
    """The posterior of ``images`` [batch, 3, 64, 64] in [-1, 1]."""
    return vae.encode(images, return_dict=False)[0]


def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Pictures in [-1, 1] of ``latents`` [batch, 4, 16, 16]."""
    return vae.decode(latents, return_dict=False)[0]


def new_autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )


@torch.inference_mode()
def measure_latents(vae: AutoencoderKL, rng: np.random.Generator) -> dict[str, float]:
    """Mean and standard deviation of the latents, and the PSNR of reconstructions in dB."""
    images = pictures([sample_split(rng, split="held_out") for _ in range(256)], rng)
    latents = encode(vae, images).mean
    error = (decode(vae, latents) - images).square().mean()
    psnr = 10 * torch.log10(4.0 / error)
    return {"mean": float(latents.mean()), "std": float(latents.std()), "psnr": float(psnr)}


def train(output: Path, *, steps: int, seed: int) -> dict[str, float]:
    """Train for ``steps`` batches and save the model (float32) under ``output``."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    vae = new_autoencoder()
    optimizer = torch.optim.AdamW(vae.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, steps, pct_start=0.05)
    started = time.monotonic()
    for step in range(1, steps + 1):
        images = pictures([sample_split(rng, split="train") for _ in range(BATCH)], rng)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = encode(vae, images)
            reconstruction = decode(vae, posterior.sample()).float()
        difference = reconstruction - images
        kl = posterior.kl().float().mean() / posterior.mean[0].numel()
        loss = difference.abs().mean() + 4 * difference.square().mean() + KL_WEIGHT * kl
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            seconds = time.monotonic() - started
            print(f"vae {step}/{steps} loss {loss.item():.4f} kl {kl.item():.2f} {seconds:.0f} s")
    measured = measure_latents(vae.eval(), rng)
    vae.register_to_config(
        scaling_factor=1.0 / measured["std"], shift_factor=measured["mean"], force_upcast=False
    )
    vae.save_pretrained(output)
    return measured | {"steps": steps, "seconds": round(time.monotonic() - started)}

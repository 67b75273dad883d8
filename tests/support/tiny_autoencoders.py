"""Minute autoencoders and schedulers, which several pipelines of tests/tiny_pipelines.py have."""

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2Transformer2DModel,
)
from torch import nn

from support.tiny_encoders import WIDTH, randomised


def kl_autoencoder(halvings: int = 1) -> nn.Module:
    return randomised(
        AutoencoderKL(
            block_out_channels=(4,) * (halvings + 1),
            down_block_types=("DownEncoderBlock2D",) * (halvings + 1),
            up_block_types=("UpDecoderBlock2D",) * (halvings + 1),
            latent_channels=4,
            norm_num_groups=2,
            scaling_factor=1.5,
            shift_factor=0.25,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
    )


def dynamic_scheduler(**options: Any) -> FlowMatchEulerDiscreteScheduler:
    """A shift by the number of image tokens, here between 4 and 64."""
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_image_seq_len=4, max_image_seq_len=64, **options
    )


def flux2_parts(**transformer: Any) -> dict[str, Any]:
    """Transformer, scheduler and autoencoder of FLUX.2, whose batch norm has seen something."""
    autoencoder = AutoencoderKLFlux2(
        block_out_channels=(4, 4),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=2,
    )
    statistics = torch.arange(16.0)
    autoencoder.bn.running_mean.copy_(0.1 * statistics - 0.5)
    autoencoder.bn.running_var.copy_(0.5 + 0.1 * statistics)
    return {
        "transformer": randomised(
            Flux2Transformer2DModel(
                in_channels=16,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=3 * WIDTH,
                axes_dims_rope=(4, 4, 4, 4),
                **transformer,
            )
        ),
        "scheduler": dynamic_scheduler(),
        "vae": randomised(autoencoder),
    }

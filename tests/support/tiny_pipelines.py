"""One minute pipeline for each supported family, built of diffusers' and transformers' own classes.

Random weights from a fixed seed, float32, sizes of one or two digits, text encoders of
tests/tiny_encoders.py. The images are not square, and no scale, shift or statistic has its neutral
value, so that a forgotten or misplaced one shows.
"""

from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKLQwenImage,
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    WanPipeline,
    WanTransformer3DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Qwen3ForCausalLM,
    Qwen3Model,
    UMT5EncoderModel,
)

from support.family import Family, plain
from support.tiny_autoencoders import dynamic_scheduler, flux2_parts, kl_autoencoder
from support.tiny_encoders import (
    WIDTH,
    clip_encoder,
    clip_tokenizer,
    gemma,
    mistral3,
    qwen2_5_vl,
    qwen3,
    qwen_tokenizer,
    randomised,
    t5,
)


def stable_diffusion_3(*, with_t5: bool, layers: int = 2, **transformer: Any) -> Any:
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    tokenizer_3, text_encoder_3 = t5(2 * WIDTH) if with_t5 else (None, None)
    return StableDiffusion3Pipeline(
        transformer=randomised(
            SD3Transformer2DModel(
                sample_size=8,
                in_channels=4,
                out_channels=4,
                num_layers=layers,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=2 * WIDTH,
                caption_projection_dim=16,
                pooled_projection_dim=2 * WIDTH,
                pos_embed_max_size=16,
                **transformer,
            )
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=kl_autoencoder(),
        text_encoder=clip_encoder(CLIPTextModelWithProjection, tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=clip_encoder(CLIPTextModelWithProjection, tokenizer),
        tokenizer_2=tokenizer,
        text_encoder_3=text_encoder_3,
        tokenizer_3=tokenizer_3,
    )


def flux(*, distilled: bool, heads: int = 2) -> Any:
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    tokenizer_2, text_encoder_2 = t5(2 * WIDTH)
    return FluxPipeline(
        transformer=randomised(
            FluxTransformer2DModel(
                in_channels=16,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=16,
                num_attention_heads=heads,
                joint_attention_dim=2 * WIDTH,
                pooled_projection_dim=WIDTH,
                guidance_embeds=distilled,
                axes_dims_rope=(4, 4, 8),
            )
        ),
        scheduler=dynamic_scheduler(),
        vae=kl_autoencoder(),
        text_encoder=clip_encoder(CLIPTextModel, tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
    )


def flux2_klein(*, distilled: bool) -> Any:
    torch.manual_seed(0)
    tokenizer, text_encoder = qwen3(Qwen3ForCausalLM, layers=27)
    return Flux2KleinPipeline(
        **flux2_parts(guidance_embeds=False),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        is_distilled=distilled,
    )


def flux2_dev() -> Any:
    torch.manual_seed(0)
    tokenizer, text_encoder = mistral3(layers=30)
    return Flux2Pipeline(
        **flux2_parts(guidance_embeds=True), text_encoder=text_encoder, tokenizer=tokenizer
    )


def sana() -> Any:
    torch.manual_seed(0)
    tokenizer, text_encoder = gemma()
    autoencoder = AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        scaling_factor=0.4,
    )
    return SanaPipeline(
        transformer=randomised(
            SanaTransformer2DModel(
                in_channels=4,
                out_channels=4,
                num_layers=1,
                num_attention_heads=2,
                attention_head_dim=4,
                num_cross_attention_heads=2,
                cross_attention_head_dim=4,
                cross_attention_dim=8,
                caption_channels=WIDTH,
                sample_size=32,
                timestep_scale=0.5,
            )
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=randomised(autoencoder),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
    )


def qwen_image(kind: Any = QwenImagePipeline, **parts: Any) -> Any:
    """A pipeline of class ``kind``; ``parts`` are what it has beside those of Qwen-Image, or a
    tokenizer in the place of its own."""
    torch.manual_seed(0)
    tokenizer = parts.pop("tokenizer", None) or qwen_tokenizer()
    autoencoder = AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.1, -0.2, 0.3, -0.4],
        latents_std=[0.5, 0.7, 1.5, 2.0],
    )
    return kind(
        transformer=randomised(
            QwenImageTransformer2DModel(
                in_channels=16,
                out_channels=4,
                num_layers=2,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=WIDTH,
                axes_dims_rope=(8, 4, 4),
            )
        ),
        scheduler=dynamic_scheduler(shift_terminal=0.02),
        vae=randomised(autoencoder),
        text_encoder=qwen2_5_vl(tokenizer),
        tokenizer=tokenizer,
        **parts,
    )


def z_image() -> Any:
    torch.manual_seed(0)
    tokenizer, text_encoder = qwen3(Qwen3Model, layers=2)
    return ZImagePipeline(
        transformer=randomised(
            ZImageTransformer2DModel(
                in_channels=4,
                dim=32,
                n_layers=1,
                n_refiner_layers=1,
                n_heads=2,
                n_kv_heads=2,
                cap_feat_dim=WIDTH,
                axes_dims=[8, 4, 4],
                axes_lens=[256, 32, 32],
            )
        ),
        scheduler=dynamic_scheduler(),
        vae=kl_autoencoder(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
    )


def lumina_2() -> Any:
    torch.manual_seed(0)
    tokenizer, text_encoder = gemma()
    return Lumina2Pipeline(
        transformer=randomised(
            Lumina2Transformer2DModel(
                sample_size=4,
                in_channels=4,
                hidden_size=32,
                num_layers=1,
                num_refiner_layers=1,
                num_attention_heads=2,
                num_kv_heads=1,
                multiple_of=8,
                axes_dim_rope=(8, 4, 4),
                axes_lens=(300, 32, 32),
                cap_feat_dim=WIDTH,
            )
        ),
        scheduler=dynamic_scheduler(),
        vae=kl_autoencoder(halvings=3),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
    )


def wan(**settings: Any) -> Any:
    torch.manual_seed(0)
    tokenizer, text_encoder = t5(2 * WIDTH, UMT5EncoderModel)
    autoencoder = AutoencoderKLWan(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[True],
        latents_mean=[0.1, -0.2, 0.3, -0.4],
        latents_std=[0.5, 0.7, 1.5, 2.0],
        scale_factor_spatial=2,
    )
    return WanPipeline(
        transformer=randomised(
            WanTransformer3DModel(
                in_channels=4,
                out_channels=4,
                num_attention_heads=2,
                attention_head_dim=16,
                text_dim=2 * WIDTH,
                freq_dim=16,
                ffn_dim=32,
                num_layers=1,
                rope_max_seq_len=32,
            )
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=randomised(autoencoder),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        **settings,
    )


def true_cfg(scale: float, count: int) -> dict[str, Any]:
    """Qwen-Image's guidance: without a negative prompt its call has none."""
    return {"true_cfg_scale": scale, "negative_prompt": [" "] * count if scale > 1 else None}


FAMILIES = {
    "sd3": Family(lambda: stable_diffusion_3(with_t5=True), plain),
    "sd3.5 without t5": Family(
        lambda: stable_diffusion_3(with_t5=False, qk_norm="rms_norm", dual_attention_layers=(0,)),
        plain,
    ),
    "flux dev": Family(lambda: flux(distilled=True), plain),
    "flux schnell": Family(lambda: flux(distilled=False), plain),
    "flux2 dev": Family(flux2_dev, plain, tokens=64),
    "flux2 klein": Family(lambda: flux2_klein(distilled=False), plain, tokens=64, in_words=False),
    "flux2 klein distilled": Family(lambda: flux2_klein(distilled=True), plain, tokens=64),
    "sana": Family(sana, plain, height=32, width=64, options={"use_resolution_binning": False}),
    "qwen-image": Family(
        qwen_image,
        true_cfg,
        # Of its template of characters the pipeline drops but as many as it has words.
        tokens=240,
    ),
    "wan": Family(wan, plain, width=32, options={"num_frames": 1, "output_type": "pil"}),
    "z-image": Family(z_image, lambda scale, count: {"guidance_scale": scale - 1}, tokens=64),
}

"""Qwen-Image (Wu et al., arXiv 2508.02324), and Qwen-Image-Edit, which edits pictures."""

from typing import Any, final

import torch
from PIL import Image
from torch import Tensor

from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.edits import GuidedEdits
from adrpo.flow.models.families.attention import JOINT_ATTENTION
from adrpo.flow.models.families.autoencoders import decode_frame, encode_frame
from adrpo.flow.models.families.packing import pack, unpack, with_original
from adrpo.flow.models.geometry import Geometry
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.path.convention import (
    dynamic_shift,
    even_sigmas,
    sigma_from_time,
    velocity_from_diffusers,
)
from adrpo.flow.path.samplers import guided


def guided_at_constant_norm(v_cond: Tensor, v_uncond: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance whose length, token by token, is that of ``v_cond``.

    A token is a 2x2 patch of all channels of [batch, channels, height, width].
    """
    v = guided(v_cond, v_uncond, scale)
    return v * (_token_norm(v_cond) / _token_norm(v))


def _token_norm(v: Tensor) -> Tensor:
    n, channels, height, width = v.shape
    patches = v.reshape(n, channels, height // 2, 2, width // 2, 2)
    norm = patches.square().sum((1, 3, 5), keepdim=True).sqrt()
    return norm.expand(-1, 1, -1, 2, -1, 2).reshape(n, 1, height, width)


class QwenImageFamily(PipelinePolicy):
    """A pipeline of Qwen-Image as a policy.

    The guidance scale is the pipeline's ``true_cfg_scale``, without a negative prompt against one
    of a space, as its model card recommends.
    """

    guide = staticmethod(guided_at_constant_norm)
    lora_targets = JOINT_ATTENTION
    tokens = 512
    fewest_tokens = 16
    nothing = " "

    def _geometry(self) -> Geometry:
        factor = self.pipeline.vae_scale_factor
        return Geometry(
            channels=self.pipeline.transformer.config.in_channels // 4,
            factor=factor,
            multiple=2 * factor,
            default=self.pipeline.default_sample_size * factor,
        )

    def _encode(self, prompts: list[str], **read: Any) -> Conditioning:
        context, mask = self.pipeline.encode_prompt(
            prompt=prompts,
            max_sequence_length=self.max_sequence_length,
            device=self.device,
            **read,
        )
        if mask is None:
            mask = torch.ones(context.shape[:2], device=context.device)
        return Conditioning(context=context, mask=mask.bool())

    def _encode_negative(self, prompts: list[str]) -> Conditioning:
        return self._encode(prompts)

    def _predict(
        self, x_t: Tensor, t: Tensor, conditioning: Conditioning, guidance_scale: float
    ) -> Tensor:
        mask, latent = conditioning.mask, pack(x_t)
        pictures = self._pictures(*x_t.shape[2:])
        behind = sum(rows * columns for _, rows, columns in pictures[1:])
        output = self.pipeline.transformer(
            hidden_states=with_original(latent, conditioning, behind),
            timestep=sigma_from_time(t),
            encoder_hidden_states=conditioning.context,
            # Attention without a mask is the faster one.
            encoder_hidden_states_mask=None if mask.all() else mask,
            img_shapes=[pictures] * len(x_t),
            return_dict=False,
        )[0]
        return velocity_from_diffusers(unpack(output[:, : latent.shape[1]], x_t.shape[1:]))

    def _pictures(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """Frames, rows and columns of the tokens of all pictures that the network reads beside a
        latent of ``height`` and ``width``, its own first."""
        return [(1, height // 2, width // 2)]

    def _schedule(self, steps: int, shape: tuple[int, ...]) -> dict[str, Any]:
        _, height, width = shape
        mu = dynamic_shift(self.pipeline.scheduler, (height // 2) * (width // 2))
        return {"sigmas": even_sigmas(steps), "mu": mu}

    def _to_pixels(self, x_1: Tensor) -> Tensor:
        return decode_frame(self.pipeline.vae, x_1)

    def _to_latents(self, pixels: Tensor) -> Tensor:
        return encode_frame(self.pipeline.vae, pixels)


@final
class QwenImagePolicy(QwenImageFamily):
    """A ``diffusers.QwenImagePipeline`` as a policy."""


@final
class QwenImageEditPolicy(GuidedEdits, QwenImageFamily):
    """A ``diffusers.QwenImageEditPipeline`` as a policy that edits.

    Whatever the size of the edit, the network and the text encoder read the original at about a
    megapixel, in the edit's proportions: what the pipeline's call makes of a picture that has them.
    """

    cuts = False
    encoding_parts = (*GuidedEdits.encoding_parts, "processor*")

    @classmethod
    def original_size(cls, height: int, width: int) -> tuple[int, int]:
        from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit import calculate_dimensions

        wide, high, _ = calculate_dimensions(1024 * 1024, width / height)
        return high, wide

    def _read(self, prompts: list[str], pictures: list[Image.Image]) -> Conditioning:
        return self._encode(prompts, image=pictures)

    def _pictures(self, height: int, width: int) -> list[tuple[int, int, int]]:
        factor = self.geometry.factor
        high, wide = self.original_size(height * factor, width * factor)
        own = super()._pictures(height, width)
        return own + super()._pictures(high // factor, wide // factor)

"""FLUX.1 (Black Forest Labs): dev, whose guidance is distilled, schnell, and Kontext for edits."""

from typing import Any, final

import torch
from torch import Tensor

from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.edits import Edits
from adrpo.flow.models.families.attention import JOINT_ATTENTION
from adrpo.flow.models.families.autoencoders import decode_kl, encode_kl
from adrpo.flow.models.families.packing import pack, unpack, with_original
from adrpo.flow.models.geometry import Geometry
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.path.convention import (
    dynamic_shift,
    even_sigmas,
    sigma_from_time,
    velocity_from_diffusers,
)


class FluxFamily(PipelinePolicy):
    """A pipeline of FLUX.1 as a policy.

    The guidance scale is an input of dev's network (3.5 in the pipeline's call) and of no effect
    on schnell. The true guidance of the pipeline's ``true_cfg_scale`` is left out.
    """

    lora_targets = JOINT_ATTENTION
    tokens = 512
    fewest_tokens = 16
    distilled = True

    def _geometry(self) -> Geometry:
        factor = self.pipeline.vae_scale_factor
        return Geometry(
            channels=self.pipeline.transformer.config.in_channels // 4,
            factor=factor,
            multiple=2 * factor,
            default=self.pipeline.default_sample_size * factor,
        )

    def _encode(self, prompts: list[str]) -> Conditioning:
        context, pooled, _ = self.pipeline.encode_prompt(
            prompt=prompts, max_sequence_length=self.max_sequence_length, device=self.device
        )
        return Conditioning(context=context, pooled=pooled)

    def _encode_negative(self, prompts: list[str]) -> None:
        return None

    def _predict(
        self, x_t: Tensor, t: Tensor, conditioning: Conditioning, guidance_scale: float
    ) -> Tensor:
        transformer, context = self.pipeline.transformer, conditioning.context
        height, width = x_t.shape[2:]
        latent = pack(x_t)
        tokens = with_original(latent, conditioning)
        pictures, rows, columns = (
            torch.arange(count, device=x_t.device)
            for count in (tokens.shape[1] // latent.shape[1], height // 2, width // 2)
        )
        output = transformer(
            hidden_states=tokens,
            timestep=sigma_from_time(t),
            guidance=torch.full_like(t, guidance_scale)
            if transformer.config.guidance_embeds
            else None,
            pooled_projections=conditioning.pooled,
            encoder_hidden_states=context,
            # Positions (picture, row, column), the original being picture 1; all those of the text
            # are 0.
            txt_ids=context.new_zeros(context.shape[1], 3),
            img_ids=torch.cartesian_prod(pictures, rows, columns).to(context.dtype),
            return_dict=False,
        )[0]
        return velocity_from_diffusers(unpack(output[:, : latent.shape[1]], x_t.shape[1:]))

    def _schedule(self, steps: int, shape: tuple[int, ...]) -> dict[str, Any]:
        _, height, width = shape
        mu = dynamic_shift(self.pipeline.scheduler, (height // 2) * (width // 2))
        return {"sigmas": even_sigmas(steps), "mu": mu}

    def _to_pixels(self, x_1: Tensor) -> Tensor:
        return decode_kl(self.pipeline.vae, x_1)

    def _to_latents(self, pixels: Tensor) -> Tensor:
        return encode_kl(self.pipeline.vae, pixels)


@final
class FluxPolicy(FluxFamily):
    """A ``diffusers.FluxPipeline`` as a policy."""


@final
class FluxKontextPolicy(Edits, FluxFamily):
    """A ``diffusers.FluxKontextPipeline`` as a policy that edits.

    The original has the size of the edit. The pipeline's call scales it to the nearest of a list of
    sizes around a megapixel: the same where the edit has that size, and where it does not what the
    call with ``_auto_resize=False`` makes of a picture of the edit's size, and ``max_area`` its
    area.
    """

"""FLUX.2 (Black Forest Labs): dev, whose guidance is distilled, and klein, base and distilled."""

from typing import Any, final

import torch
from torch import Tensor

from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.families.attention import JOINT_ATTENTION
from adrpo.flow.models.geometry import Geometry
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.path.convention import (
    even_sigmas,
    sigma_from_time,
    velocity_from_diffusers,
)


class Flux2Family(PipelinePolicy):
    """A pipeline of FLUX.2 as a policy, but for its guidance.

    Noise is drawn for latents whose 2x2 patches are channels already, [4 c, height / 16, width /
    16], and normalised as the autoencoder's batch norm counted them.
    """

    # The fused layer after the attention of a single block, attn.to_out, has the name of the list
    # that holds a joint block's, which takes no adapter.
    lora_targets = (*JOINT_ATTENTION, "attn.to_qkv_mlp_proj")
    tokens = 512
    fewest_tokens = 32

    def _geometry(self) -> Geometry:
        factor = 2 * self.pipeline.vae_scale_factor
        return Geometry(
            channels=self.pipeline.transformer.config.in_channels,
            factor=factor,
            multiple=factor,
            default=self.pipeline.default_sample_size * self.pipeline.vae_scale_factor,
        )

    def _encode(self, prompts: list[str]) -> Conditioning:
        context, _ = self.pipeline.encode_prompt(
            prompt=prompts, max_sequence_length=self.max_sequence_length, device=self.device
        )
        return Conditioning(context=context)

    def _predict(
        self, x_t: Tensor, t: Tensor, conditioning: Conditioning, guidance_scale: float
    ) -> Tensor:
        transformer, context = self.pipeline.transformer, conditioning.context
        height, width = x_t.shape[2:]
        one, rows, columns, words = (
            torch.arange(count, device=x_t.device) for count in (1, height, width, context.shape[1])
        )
        output = transformer(
            hidden_states=x_t.flatten(2).transpose(1, 2),
            timestep=sigma_from_time(t),
            guidance=torch.full_like(t, guidance_scale)
            if transformer.config.guidance_embeds
            else None,
            encoder_hidden_states=context,
            # Positions (image, row, column, word).
            txt_ids=torch.cartesian_prod(one, one, one, words).expand(len(x_t), -1, -1),
            img_ids=torch.cartesian_prod(one, rows, columns, one).expand(len(x_t), -1, -1),
            return_dict=False,
        )[0]
        return velocity_from_diffusers(output.transpose(1, 2).unflatten(2, (height, width)))

    def _schedule(self, steps: int, shape: tuple[int, ...]) -> dict[str, Any]:
        from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu

        _, height, width = shape
        return {"sigmas": even_sigmas(steps), "mu": compute_empirical_mu(height * width, steps)}

    def _to_pixels(self, x_1: Tensor) -> Tensor:
        mean, std = self._latent_statistics()
        latents = self.pipeline._unpatchify_latents(x_1 * std.to(x_1) + mean.to(x_1))
        vae = self.pipeline.vae
        return vae.decode(latents.to(vae.dtype), return_dict=False)[0]

    def _to_latents(self, pixels: Tensor) -> Tensor:
        mean, std = self._latent_statistics()
        mode = self.pipeline.vae.encode(pixels).latent_dist.mode()
        latents = self.pipeline._patchify_latents(mode).float()
        return (latents - mean.to(latents)) / std.to(latents)

    def _latent_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the patches' channels, [4 c, 1, 1] each."""
        vae = self.pipeline.vae
        variance = vae.bn.running_var + vae.config.batch_norm_eps
        return vae.bn.running_mean[:, None, None], variance.sqrt()[:, None, None]


@final
class Flux2Policy(Flux2Family):
    """A ``diffusers.Flux2Pipeline`` (FLUX.2 dev) as a policy.

    The guidance scale is an input of the network (4 in the pipeline's call).
    """

    distilled = True

    def _encode_negative(self, prompts: list[str]) -> None:
        return None


@final
class Flux2KleinPolicy(Flux2Family):
    """A ``diffusers.Flux2KleinPipeline`` as a policy.

    The guidance scale is the pipeline's, whose call takes a negative prompt by its embeddings. The
    step-distilled models know none, as the pipeline, which ignores it.
    """

    def _encode_negative(self, prompts: list[str]) -> Conditioning | None:
        return None if self.pipeline.config.is_distilled else self._encode(prompts)

"""Stable Diffusion 3 and 3.5 (Esser et al., arXiv 2403.03206), with or without T5."""

from typing import Any, final

from torch import Tensor

from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.families.attention import JOINT_ATTENTION
from adrpo.flow.models.families.autoencoders import decode_kl, encode_kl
from adrpo.flow.models.geometry import Geometry
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.path.convention import dynamic_shift, timestep_from_time, velocity_from_diffusers


@final
class StableDiffusion3Policy(PipelinePolicy):
    """A ``diffusers.StableDiffusion3Pipeline`` (SD3, SD3.5, the embedded model) as a policy.

    ``max_sequence_length`` counts T5's tokens; without T5 they are zeros. The two CLIP encoders
    read the prompt in any case.
    """

    lora_targets = JOINT_ATTENTION
    tokens = 256
    fewest_tokens = 1

    def _geometry(self) -> Geometry:
        pipeline, factor = self.pipeline, self.pipeline.vae_scale_factor
        patch = factor * pipeline.patch_size
        return Geometry(
            channels=pipeline.transformer.config.in_channels,
            factor=factor,
            multiple=patch,
            largest=pipeline.transformer.config.pos_embed_max_size * patch,
            default=pipeline.default_sample_size * factor,
        )

    def _encode(self, prompts: list[str]) -> Conditioning:
        context, _, pooled, _ = self.pipeline.encode_prompt(
            prompt=prompts,
            prompt_2=None,
            prompt_3=None,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_sequence_length,
            device=self.device,
        )
        return Conditioning(context=context, pooled=pooled)

    def _encode_negative(self, prompts: list[str]) -> Conditioning:
        return self._encode(prompts)

    def _predict(
        self, x_t: Tensor, t: Tensor, conditioning: Conditioning, guidance_scale: float
    ) -> Tensor:
        steps = self.pipeline.scheduler.config.num_train_timesteps
        output = self.pipeline.transformer(
            hidden_states=x_t,
            timestep=timestep_from_time(t, num_train_timesteps=steps),
            encoder_hidden_states=conditioning.context,
            pooled_projections=conditioning.pooled,
            return_dict=False,
        )[0]
        return velocity_from_diffusers(output)

    def _schedule(self, steps: int, shape: tuple[int, ...]) -> dict[str, Any]:
        _, height, width = shape
        tokens = (height // self.pipeline.patch_size) * (width // self.pipeline.patch_size)
        return {"mu": dynamic_shift(self.pipeline.scheduler, tokens)}

    def _to_pixels(self, x_1: Tensor) -> Tensor:
        return decode_kl(self.pipeline.vae, x_1)

    def _to_latents(self, pixels: Tensor) -> Tensor:
        return encode_kl(self.pipeline.vae, pixels)

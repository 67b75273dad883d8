"""SANA and SANA-1.5 (Xie et al., arXiv 2410.10629 and 2501.18427)."""

import inspect
from typing import Any, final

from torch import Tensor

from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.families.attention import SELF_AND_CROSS_ATTENTION
from adrpo.flow.models.geometry import Geometry
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.path.convention import timestep_from_time, velocity_from_diffusers


@final
class SanaPolicy(PipelinePolicy):
    """A ``diffusers.SanaPipeline`` as a policy.

    Prompts are read after the instruction that is the default of the pipeline's call. Images are
    drawn at the size asked for: the pipeline's ``use_resolution_binning``, which draws the nearest
    size of a list and then resizes, is off.
    """

    lora_targets = SELF_AND_CROSS_ATTENTION
    tokens = 300
    fewest_tokens = 16

    def _geometry(self) -> Geometry:
        config, factor = self.pipeline.transformer.config, self.pipeline.vae_scale_factor
        return Geometry(
            channels=config.in_channels,
            factor=factor,
            multiple=factor * config.patch_size,
            default=config.sample_size * factor,
        )

    def _encode(self, prompts: list[str]) -> Conditioning:
        call = inspect.signature(type(self.pipeline).__call__)
        return self._encode_after(call.parameters["complex_human_instruction"].default, prompts)

    def _encode_negative(self, prompts: list[str]) -> Conditioning:
        return self._encode_after(None, prompts)

    def _encode_after(self, instruction: list[str] | None, prompts: list[str]) -> Conditioning:
        context, mask, _, _ = self.pipeline.encode_prompt(
            prompt=prompts,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_sequence_length,
            complex_human_instruction=instruction,
            device=self.device,
        )
        return Conditioning(context=context, mask=mask.bool())

    def _predict(
        self, x_t: Tensor, t: Tensor, conditioning: Conditioning, guidance_scale: float
    ) -> Tensor:
        transformer = self.pipeline.transformer
        steps = self.pipeline.scheduler.config.num_train_timesteps
        timestep = timestep_from_time(t, num_train_timesteps=steps)
        output = transformer(
            hidden_states=x_t,
            encoder_hidden_states=conditioning.context.to(self.network_dtype),
            encoder_attention_mask=conditioning.mask,
            timestep=timestep * transformer.config.timestep_scale,
            return_dict=False,
        )[0]
        return velocity_from_diffusers(output)

    def _schedule(self, steps: int, shape: tuple[int, ...]) -> dict[str, Any]:
        return {}

    def _to_pixels(self, x_1: Tensor) -> Tensor:
        vae = self.pipeline.vae
        latents = x_1.to(vae.dtype) / vae.config.scaling_factor
        return vae.decode(latents, return_dict=False)[0]

    def _to_latents(self, pixels: Tensor) -> Tensor:
        # A deterministic encoder: there is no posterior.
        vae = self.pipeline.vae
        return vae.encode(pixels, return_dict=False)[0].float() * vae.config.scaling_factor

"""Wan text-to-video (Wan Team, arXiv 2503.20314), of which one frame is drawn: an image."""

import math
from typing import Any, final

from torch import Tensor

from adrpo.errors import AdrpoError
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.families.attention import SELF_AND_CROSS_ATTENTION
from adrpo.flow.models.families.autoencoders import decode_frame, encode_frame
from adrpo.flow.models.geometry import Geometry
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.path.convention import timestep_from_time, velocity_from_diffusers


@final
class WanPolicy(PipelinePolicy):
    """A ``diffusers.WanPipeline`` as a policy of images: its call with ``num_frames=1``.

    Wan 2.1, whose one network has all times. The two networks of Wan 2.2 A14B, and the time of each
    token of its TI2V, are refused.

    Raises:
        AdrpoError: a pipeline with a second transformer, or with a time for each token.
    """

    lora_targets = SELF_AND_CROSS_ATTENTION
    tokens = 512
    fewest_tokens = 16

    def _geometry(self) -> Geometry:
        config, factor = self.pipeline.transformer.config, self.pipeline.vae_scale_factor_spatial
        self._check_version()
        return Geometry(
            channels=config.in_channels,
            factor=factor,
            multiple=math.lcm(factor * config.patch_size[1], 16),  # 16 by the pipeline's check
            default=480,
        )

    def _check_version(self) -> None:
        settings = self.pipeline.config
        if self.pipeline.transformer_2 is not None or settings.expand_timesteps:
            received = "two" if self.pipeline.transformer_2 is not None else "a time for each token"
            raise AdrpoError(
                f"model.pretrained: expected a WanPipeline of one transformer and one time for all "
                f"tokens, as Wan 2.1 is; received {received}: name Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
            )

    def _encode(self, prompts: list[str]) -> Conditioning:
        context, _ = self.pipeline.encode_prompt(
            prompt=prompts,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_sequence_length,
            device=self.device,
        )
        return Conditioning(context=context)

    def _encode_negative(self, prompts: list[str]) -> Conditioning:
        return self._encode(prompts)

    def _predict(
        self, x_t: Tensor, t: Tensor, conditioning: Conditioning, guidance_scale: float
    ) -> Tensor:
        transformer = self.pipeline.transformer
        steps = self.pipeline.scheduler.config.num_train_timesteps
        output = transformer(
            hidden_states=x_t[:, :, None],
            timestep=timestep_from_time(t, num_train_timesteps=steps),
            encoder_hidden_states=conditioning.context.to(self.network_dtype),
            return_dict=False,
        )[0]
        return velocity_from_diffusers(output[:, :, 0])

    def _schedule(self, steps: int, shape: tuple[int, ...]) -> dict[str, Any]:
        return {}

    @property
    def _image_processor(self) -> Any:
        return self.pipeline.video_processor

    def _to_pixels(self, x_1: Tensor) -> Tensor:
        return decode_frame(self.pipeline.vae, x_1)

    def _to_latents(self, pixels: Tensor) -> Tensor:
        return encode_frame(self.pipeline.vae, pixels)

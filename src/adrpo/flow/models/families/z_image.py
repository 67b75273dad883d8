"""Z-Image and Z-Image-Turbo (Tongyi-MAI)."""

from typing import Any, final

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.families.autoencoders import decode_kl, encode_kl
from adrpo.flow.models.geometry import Geometry
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.path.convention import dynamic_shift, even_sigmas


@final
class ZImagePolicy(PipelinePolicy):
    """A ``diffusers.ZImagePipeline`` as a policy.

    The guidance scale w of the policy is 1 more than the pipeline's, whose 0 is no guidance:
    v_cond + (w - 1) (v_cond - v_uncond) is v_uncond + w (v_cond - v_uncond).
    """

    lora_targets = ("attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0")
    tokens = 512
    fewest_tokens = 16

    def _geometry(self) -> Geometry:
        factor = self.pipeline.vae_scale_factor
        return Geometry(
            channels=self.pipeline.transformer.config.in_channels,
            factor=factor,
            multiple=2 * factor,
            default=1024,
        )

    def _encode(self, prompts: list[str]) -> Conditioning:
        contexts, _ = self.pipeline.encode_prompt(
            prompt=prompts,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_sequence_length,
            device=self.device,
        )
        mask = [torch.ones(len(context), dtype=torch.bool) for context in contexts]
        return Conditioning(
            context=pad_sequence(contexts, batch_first=True),
            mask=pad_sequence(mask, batch_first=True).to(self.device),
        )

    def _encode_negative(self, prompts: list[str]) -> Conditioning:
        return self._encode(prompts)

    def _predict(
        self, x_t: Tensor, t: Tensor, conditioning: Conditioning, guidance_scale: float
    ) -> Tensor:
        # This network has the paper's time, and the paper's sign: it predicts data - noise.
        output = self.pipeline.transformer(
            list(x_t[:, :, None]),
            t,
            [
                context[mask]
                for context, mask in zip(conditioning.context, conditioning.mask, strict=True)
            ],
            return_dict=False,
        )[0]
        return torch.stack(output)[:, :, 0]

    def _schedule(self, steps: int, shape: tuple[int, ...]) -> dict[str, Any]:
        _, height, width = shape
        mu = dynamic_shift(self.pipeline.scheduler, (height // 2) * (width // 2))
        return {"sigmas": even_sigmas(steps), "mu": mu}

    def _to_pixels(self, x_1: Tensor) -> Tensor:
        return decode_kl(self.pipeline.vae, x_1)

    def _to_latents(self, pixels: Tensor) -> Tensor:
        return encode_kl(self.pipeline.vae, pixels)

"""The policy: a diffusers pipeline with a trainable LoRA adapter, seen through five verbs.

``encode`` prompts, ``sample`` x_1 from noise, ``velocity`` at (x_t, t), ``decode`` x_1 to images,
and ``reference``: the same model with its adapter off, so that no second copy is ever held.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from adrpo.errors import AdrpoError
from adrpo.flow.path import time_grid, timestep_from_time, velocity_from_diffusers
from adrpo.flow.samplers import SOLVERS, guided

if TYPE_CHECKING:
    from adrpo.config import AdapterConfig, SamplingConfig

WEIGHTS_NAME = "pytorch_lora_weights.safetensors"
ADAPTER = "default"


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """What the model reads of a prompt: ``context`` [n, tokens, dim] and ``pooled`` [n, dim]."""

    context: Tensor
    pooled: Tensor

    def select(self, index: Tensor) -> "Conditioning":
        """The rows ``index`` (integers, repeats allowed)."""
        return Conditioning(context=self.context[index], pooled=self.pooled[index])


class FlowPolicy(Protocol):
    """What the trainer needs of a model. Times and velocities are the paper's (flow/path.py)."""

    model_calls: int
    """Samples x network evaluations so far; guidance counts twice."""

    @property
    def latent_shape(self) -> tuple[int, ...]: ...

    @property
    def device(self) -> torch.device: ...

    def encode(self, prompts: Sequence[str]) -> Conditioning: ...

    def velocity(
        self, x_t: Tensor, t: Tensor, conditioning: Conditioning, *, guidance_scale: float = 1.0
    ) -> Tensor: ...

    def sample(
        self, x_0: Tensor, conditioning: Conditioning, sampling: "SamplingConfig"
    ) -> Tensor: ...

    def decode(self, x_1: Tensor) -> list[Image.Image]: ...

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor: ...

    def time_grid(self, steps: int) -> Tensor: ...

    def reference(self) -> Any: ...

    def adapter_parameters(self) -> list[nn.Parameter]: ...

    def adapter_state(self) -> dict[str, Tensor]: ...

    def load_adapter_state(self, state: dict[str, Tensor]) -> None: ...

    def save_adapter(self, folder: Path) -> None: ...


class StableDiffusion3Policy:
    """A ``diffusers.StableDiffusion3Pipeline`` (SD3, SD3.5, the embedded model) as a policy.

    The base weights are frozen in the pipeline's dtype; the adapter is float32. Text encoders
    and autoencoder are used as they are.
    """

    def __init__(
        self,
        pipeline: Any,
        *,
        max_sequence_length: int,
        height: int | None = None,
        width: int | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.max_sequence_length = max_sequence_length
        self.height = height or pipeline.default_sample_size * pipeline.vae_scale_factor
        self.width = width or pipeline.default_sample_size * pipeline.vae_scale_factor
        self.model_calls = 0
        self._adapted = False
        for module in pipeline.components.values():
            if isinstance(module, nn.Module):
                module.requires_grad_(False).eval()
        self._unconditional = self.encode([""])

    @property
    def device(self) -> torch.device:
        return self.pipeline.transformer.device

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one sample: (channels, height / f, width / f), f the autoencoder's factor."""
        factor = self.pipeline.vae_scale_factor
        channels = self.pipeline.transformer.config.in_channels
        return (channels, self.height // factor, self.width // factor)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Conditioning of ``prompts``, encoded once and kept by the caller."""
        context, _, pooled, _ = self.pipeline.encode_prompt(
            prompt=list(prompts),
            prompt_2=None,
            prompt_3=None,
            do_classifier_free_guidance=False,
            max_sequence_length=self.max_sequence_length,
            device=self.device,
        )
        return Conditioning(context=context, pooled=pooled)

    def velocity(
        self, x_t: Tensor, t: Tensor, conditioning: Conditioning, *, guidance_scale: float = 1.0
    ) -> Tensor:
        """v(x_t, t, c) in float32: [batch, *latent_shape], with ``t`` [batch] in [0, 1].

        ``guidance_scale`` other than 1 doubles the batch with the empty prompt and guides.
        """
        if guidance_scale == 1.0:
            return self._predict(x_t, t, conditioning)
        nobody = self._unconditional.select(torch.zeros(len(x_t), dtype=torch.long))
        both = Conditioning(
            context=torch.cat([nobody.context, conditioning.context]),
            pooled=torch.cat([nobody.pooled, conditioning.pooled]),
        )
        v_uncond, v_cond = self._predict(torch.cat([x_t, x_t]), torch.cat([t, t]), both).chunk(2)
        return guided(v_cond, v_uncond, guidance_scale)

    def _predict(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        transformer = self.pipeline.transformer
        steps = self.pipeline.scheduler.config.num_train_timesteps
        self.model_calls += len(x_t)
        output = transformer(
            hidden_states=x_t.to(transformer.dtype),
            timestep=timestep_from_time(t, num_train_timesteps=steps),
            encoder_hidden_states=conditioning.context,
            pooled_projections=conditioning.pooled,
            return_dict=False,
        )[0]
        return velocity_from_diffusers(output.float())

    @torch.inference_mode()
    def sample(self, x_0: Tensor, conditioning: Conditioning, sampling: "SamplingConfig") -> Tensor:
        """x_1 from noise ``x_0`` along the scheduler's own times; equals the pipeline's call."""

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            return self.velocity(x, t, conditioning, guidance_scale=sampling.guidance_scale)

        times = self.time_grid(sampling.steps)
        return SOLVERS[sampling.solver](velocity, x_0.to(self.device), times)

    def time_grid(self, steps: int) -> Tensor:
        """The scheduler's own times, [steps + 1], from 0 to 1."""
        return time_grid(self.pipeline.scheduler, steps)

    @torch.inference_mode()
    def decode(self, x_1: Tensor) -> list[Image.Image]:
        """Images of latents ``x_1`` [batch, *latent_shape]."""
        vae = self.pipeline.vae
        latents = x_1 / vae.config.scaling_factor + vae.config.shift_factor
        pixels = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
        return self.pipeline.image_processor.postprocess(pixels.float(), output_type="pil")

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Latents x_1 of ``images``, [batch, *latent_shape]: the mode of the autoencoder's
        posterior, scaled as the transformer reads it. ``decode`` is its inverse but for what the
        autoencoder loses."""
        vae = self.pipeline.vae
        pixels = self.pipeline.image_processor.preprocess(
            list(images), height=self.height, width=self.width
        )
        posterior = vae.encode(pixels.to(self.device, vae.dtype)).latent_dist
        return (posterior.mode().float() - vae.config.shift_factor) * vae.config.scaling_factor

    @contextmanager
    def reference(self) -> Iterator[None]:
        """The frozen reference: the adapter is off inside, and as it was afterwards."""
        if not self._adapted:  # diffusers refuses to switch off what isn't there
            yield
            return
        self.pipeline.transformer.disable_adapters()
        try:
            yield
        finally:
            self.pipeline.transformer.enable_adapters()

    def add_adapter(self, adapter: "AdapterConfig") -> None:
        """Add a new LoRA adapter: A Gaussian, B zero, so the policy starts as the reference.

        Draws from torch's global generator.
        """
        from peft import LoraConfig

        transformer = self.pipeline.transformer
        try:
            transformer.add_adapter(
                LoraConfig(
                    r=adapter.rank,
                    # PEFT divides by the rank, and takes any number in spite of its hint.
                    lora_alpha=adapter.alpha,  # pyright: ignore[reportArgumentType]
                    init_lora_weights="gaussian",
                    target_modules=list(adapter.target_modules),
                ),
                adapter_name=ADAPTER,
            )
        except ValueError as error:
            raise AdrpoError(
                f"adapter.target_modules: expected names of linear layers of the transformer; "
                f"received {list(adapter.target_modules)}: {str(error).splitlines()[0]}"
            ) from error
        self._adapted = True
        for parameter in self.adapter_parameters():
            parameter.data = parameter.data.float()

    def load_adapter(self, folder: Path) -> None:
        """Load an adapter of the transformer that ``save_adapter`` or a diffusers script saved.

        Raises AdrpoError where it also adapts another part, which a policy leaves as it is.
        """
        state, metadata = self.pipeline.lora_state_dict(folder, return_lora_metadata=True)
        others = sorted({key.split(".")[0] for key in state} - {"transformer"})
        if others:
            raise AdrpoError(
                f"{folder}: expected an adapter of the transformer alone; received one of "
                f"{', '.join(others)} as well; load it with the pipeline's load_lora_weights"
            )
        # load_lora_weights would warn that neither text encoder has an adapter.
        self.pipeline.load_lora_into_transformer(
            state,
            transformer=self.pipeline.transformer,
            adapter_name=ADAPTER,
            metadata=metadata,
            _pipeline=self.pipeline,
        )
        self._adapted = True

    def adapter_parameters(self) -> list[nn.Parameter]:
        """The trainable parameters, in a fixed order."""
        return [p for p in self.pipeline.transformer.parameters() if p.requires_grad]

    def adapter_state(self) -> dict[str, Tensor]:
        from peft import get_peft_model_state_dict

        return get_peft_model_state_dict(self.pipeline.transformer, adapter_name=ADAPTER)

    def load_adapter_state(self, state: dict[str, Tensor]) -> None:
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(self.pipeline.transformer, state, adapter_name=ADAPTER)

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter as ``pipeline.load_lora_weights(folder)`` reads it."""
        metadata = self.pipeline.transformer.peft_config[ADAPTER].to_dict()
        # A set's order differs from process to process, and with it the bytes of the file.
        metadata["target_modules"] = sorted(metadata["target_modules"])
        self.pipeline.save_lora_weights(
            save_directory=folder,
            transformer_lora_layers=self.adapter_state(),
            transformer_lora_adapter_metadata=metadata,
            weight_name=WEIGHTS_NAME,
        )
        _sort_metadata(folder / WEIGHTS_NAME)


def _sort_metadata(file: Path) -> None:
    """Rewrite a safetensors file with its metadata in order: safetensors keeps it in a hash map,
    so the same adapter would otherwise be other bytes each time."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    # The format aligns the tensors to 8 bytes by spaces at the header's end.
    text += b" " * (-len(text) % 8)
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])

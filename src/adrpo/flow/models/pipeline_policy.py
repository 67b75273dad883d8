"""A pipeline of diffusers as a policy: guidance, sampling and adapter, the same for all families.

``encode`` prompts, ``sample`` x_1 from noise, ``velocity`` at (x_t, t), ``decode`` x_1 to images,
and ``reference``: the same model with its adapter off, so that no second copy is ever held. A
family (adrpo/flow/models/families) implements the abstract methods and nothing else.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from adrpo.core.placement import sent
from adrpo.errors import AdrpoError
from adrpo.flow.models import lora
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.embedding_cache import Embeddings
from adrpo.flow.models.finite import all_finite, check_latents
from adrpo.flow.models.geometry import Geometry
from adrpo.flow.models.loss_scale import loss_scale, scale_gradient, unscale_gradients
from adrpo.flow.models.negative_prompts import NegativePrompts, Negatives
from adrpo.flow.models.prompt_reading import PromptReader
from adrpo.flow.models.sharding import SHARD_BY
from adrpo.flow.path.convention import dpm_time_grid, flow_scheduler, solves_by_dpm, time_grid
from adrpo.flow.path.samplers import SOLVERS, guided
from adrpo.runs.processes import Engine
from adrpo.runs.start import start_of

if TYPE_CHECKING:
    from adrpo.config import AdapterSection, SamplingSection


class PipelinePolicy(PromptReader):
    """A diffusers text-to-image pipeline as a policy; the trainable part is a LoRA adapter.

    The base weights are frozen in the pipeline's dtype; the adapter is float32. Text encoders
    and autoencoder are used as they are. A scheduler of another solver of the same flow is
    exchanged for the Euler one (``flow_scheduler``), in the pipeline as well.

    Args:
        pipeline: of the family's class.
        max_sequence_length: tokens of a prompt; None is the number of the pipeline's own call.
        height: in pixels, of the images of prompts that name none; None is the model's own.
        width: the same.
        encoder_batch_size: prompts that are encoded at once; None is all of a set.
        embeddings: sets of prompts that need not be encoded again; None has none.
        device: where it will run; None is where the transformer is.
        negative_prompt: what guidance has beside prompts without one of their own; None is no
            prompt, as the pipeline's call has it.

    Raises:
        AdrpoError: a size that the model can't draw, too few tokens to hold a prompt, or a
            negative prompt for a model without classifier-free guidance.
    """

    guide: ClassVar[Callable[[Tensor, Tensor, float], Tensor]] = staticmethod(guided)
    """(v_cond, v_uncond, scale) -> v of classifier-free guidance."""

    lora_targets: ClassVar[tuple[str, ...]]
    """Endings of the names of the attention's linear layers: what ``adapter.target_modules`` is
    usually set to."""

    def __init__(
        self,
        pipeline: Any,
        *,
        max_sequence_length: int | None = None,
        height: int | None = None,
        width: int | None = None,
        encoder_batch_size: int | None = None,
        embeddings: Embeddings | None = None,
        device: torch.device | None = None,
        negative_prompt: str | None = None,
    ) -> None:
        super().__init__(
            pipeline,
            max_sequence_length=max_sequence_length,
            encoder_batch_size=encoder_batch_size,
            embeddings=embeddings,
            device=device,
        )
        self._dpm = pipeline.scheduler if solves_by_dpm(pipeline.scheduler) else None
        pipeline.scheduler = flow_scheduler(pipeline.scheduler)
        self.geometry = self._geometry()
        self.height = height or self.geometry.default
        self.width = width or self.geometry.default
        self._check_sizes()
        self.model_calls = 0
        self._adapter_on = False
        self.start: list[Tensor] | None = None
        self._shards: Any = None
        for module in pipeline.components.values():
            if isinstance(module, nn.Module):
                module.requires_grad_(False).eval()
        self._negatives = self._negatives_beside(negative_prompt)

    def _negatives_beside(self, default: str | None) -> Negatives:
        """The negative prompts, ``default`` being that of prompts without one of their own."""
        return NegativePrompts(self._negative, type(self.pipeline).__name__, default)

    def _check_sizes(self) -> None:
        name = type(self.pipeline).__name__
        self.geometry.check(name, height=self.height, width=self.width)
        self.check_tokens(name, self.max_sequence_length)

    @abstractmethod
    def _geometry(self) -> Geometry:
        """Sizes, from the configurations of transformer and autoencoder."""

    @abstractmethod
    def _predict(
        self, x_t: Tensor, t: Tensor, conditioning: Conditioning, guidance_scale: float
    ) -> Tensor:
        """One evaluation of the transformer, in the paper's time and sign, in its own dtype;
        ``guidance_scale`` is for distilled models only."""

    @abstractmethod
    def _schedule(self, steps: int, shape: tuple[int, ...]) -> dict[str, Any]:
        """Arguments of ``path.time_grid`` as the pipeline's call chooses them, for a latent of
        ``shape``."""

    @abstractmethod
    def _to_pixels(self, x_1: Tensor) -> Tensor:
        """Pixels [batch, 3, height, width] in [-1, 1] of latents."""

    @abstractmethod
    def _to_latents(self, pixels: Tensor) -> Tensor:
        """Latents of pixels, float32: the inverse of ``_to_pixels`` but for what the autoencoder
        loses."""

    @cached_property
    def network_dtype(self) -> torch.dtype:
        """The number type of the transformer's own weights, which no adapter changes. Kept, since
        diffusers looks through all modules for it, twice an evaluation."""
        return self.pipeline.transformer.dtype

    @property
    def _image_processor(self) -> Any:
        """Converts pixels and images, diffusers' own."""
        return self.pipeline.image_processor

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one sample: (channels, height / f, width / f), f the autoencoder's factor. A
        prompt may have another size (``shape_of``): it is the noise that says which.

        It is this one for all families, also for those whose transformer takes 2x2 patches of it
        as tokens (FLUX, Qwen-Image): x_0 ~ N(0, 1) of this shape is what the pipeline itself draws
        from a generator, before it packs it.
        """
        return self.shape_of(None, None)

    def shape_of(self, height: int | None, width: int | None) -> tuple[int, ...]:
        """The shape of a sample of another size, in pixels; None is the policy's own.

        Raises AdrpoError for a size that the model can't draw.
        """
        height, width = height or self.height, width or self.width
        name = type(self.pipeline).__name__
        self.geometry.check(name, "prompts: the column ", height=height, width=width)
        factor = self.geometry.factor
        return (self.geometry.channels, height // factor, width // factor)

    def velocity(
        self, x_t: Tensor, t: Tensor, conditioning: Conditioning, *, guidance_scale: float = 1.0
    ) -> Tensor:
        """v(x_t, t, c) in float32: like ``x_t`` [batch, *shape], with ``t`` [batch] in [0, 1].

        ``guidance_scale`` is w of v_uncond + w (v_cond - v_uncond): other than 1 it doubles the
        batch with the negative prompts. A guidance-distilled model takes it as an input instead, 1
        included, and its batch is never doubled.
        """
        if not self._negatives or guidance_scale == 1.0:
            return self._evaluate(x_t, t, conditioning, guidance_scale)
        both = Conditioning.cat([self._negatives.beside(conditioning), conditioning])
        v_uncond, v_cond = self._evaluate(
            torch.cat([x_t, x_t]), torch.cat([t, t]), both, guidance_scale
        ).chunk(2)
        return type(self).guide(v_cond, v_uncond, guidance_scale)

    def _evaluate(
        self, x_t: Tensor, t: Tensor, conditioning: Conditioning, guidance_scale: float
    ) -> Tensor:
        self.model_calls += len(x_t)
        x_t = x_t.to(self.network_dtype)
        v = self._predict(x_t, t, conditioning, guidance_scale)
        return v.float() if self._scale is None else scale_gradient(v, self._scale)

    def sample(
        self, x_0: Tensor, conditioning: Conditioning, sampling: "SamplingSection"
    ) -> Tensor:
        """x_1 from noise ``x_0`` along the scheduler's own times; equals the pipeline's call.

        With the solver ``dpmpp_2m`` these are the times of the DPM-Solver that a model's files
        name, where they name one.
        """
        told = iter(())
        if sampling.solver == "dpmpp_2m" and self._dpm is not None:
            times, rounded = dpm_time_grid(self._dpm, sampling.steps)
            told = iter(sent(rounded, self.device))
        else:
            times = self.time_grid(sampling.steps, tuple(x_0.shape[1:]))

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            t = next(told, t).expand(len(x))
            return self.velocity(x, t, conditioning, guidance_scale=sampling.guidance_scale)

        # What a network or an engine keeps of inference mode, as positions, can't be learnt with.
        with torch.no_grad():
            return SOLVERS[sampling.solver](velocity, sent(x_0, self.device), times)

    def time_grid(self, steps: int, shape: tuple[int, ...] | None = None) -> Tensor:
        """The scheduler's own times, [steps + 1], from 0 to 1, for latents of ``shape``, None
        ``latent_shape``."""
        arguments = self._schedule(steps, self.latent_shape if shape is None else shape)
        return time_grid(self.pipeline.scheduler, steps, **arguments)

    @torch.inference_mode()
    def decode(self, x_1: Tensor) -> list[Image.Image | None]:
        """Images of latents ``x_1`` [batch, *shape]; None where the latents or the pixels of
        one are not finite, which would become a black image."""
        pixels = self._to_pixels(x_1).float()
        finite = all_finite(pixels) & all_finite(x_1)
        # NaN has no 8 bits: numpy would warn.
        known = pixels.masked_fill(~finite[:, None, None, None], 0)
        images = self._image_processor.postprocess(known, output_type="pil")
        return [image if own else None for image, own in zip(images, finite.tolist(), strict=True)]

    @torch.no_grad()
    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Latents x_1 of ``images``, [batch, *latent_shape]: the mode of the autoencoder's
        posterior, scaled as the transformer reads it. ``decode`` is its inverse but for what the
        autoencoder loses.

        Raises AdrpoError for an image of another size than ``width`` x ``height``, and for latents
        that are not finite.
        """
        # The image processor would scale it, whatever its proportions.
        wrong = next((i.size for i in images if i.size != (self.width, self.height)), None)
        if wrong is not None:
            raise AdrpoError(
                f"encode_images: expected images of {self.width}x{self.height} pixels; received "
                f"{wrong[0]}x{wrong[1]}; crop and scale them"
            )
        pixels = self._image_processor.preprocess(
            list(images), height=self.height, width=self.width
        )
        latents = self._to_latents(pixels.to(self.device, self.pipeline.vae.dtype))
        check_latents(latents, self.pipeline.vae.dtype)
        return latents

    @contextmanager
    def reference(self) -> Iterator[None]:
        """The frozen reference: the adapter is off inside, and as it was afterwards. Where it began
        with ``adapter.start_from``, that stands in for it, unless ``adapter.reference`` is base.

        Uses nest: an inner one leaves the adapter off for the rest of the outer one.
        """
        if self.start is not None:
            with lora.standing_in(self.adapter_parameters(), self.start):
                yield
            return
        if not self._adapter_on:  # nor does diffusers switch off what isn't there
            yield
            return
        self.pipeline.transformer.disable_adapters()
        self._adapter_on = False
        try:
            yield
        finally:
            self.pipeline.transformer.enable_adapters()
            self._adapter_on = True

    def add_adapter(self, adapter: "AdapterSection") -> None:
        """Add a new LoRA adapter: A Gaussian, B zero, so the policy starts as the reference.

        Draws from torch's global generator. With ``adapter.start_from`` it begins as that one.

        Raises AdrpoError where the transformer has no such layers, or ``start_from`` is no adapter
        of them.
        """
        start = start_of(adapter)
        lora.add(self.pipeline.transformer, adapter, self.lora_targets)
        self._switch_on()
        if start is not None:
            lora.fill(self.pipeline, start)
            if adapter.reference == "start":
                self.start = [value.detach().clone() for value in self.adapter_parameters()]

    def shard(self, engine: Engine) -> None:
        """Leave each process a part of the frozen transformer; an adapter stays whole, everywhere.

        To be called by all processes, before ``add_adapter``.
        """
        self._shards = SHARD_BY[engine](self.pipeline.transformer, self.device)

    def load_adapter(self, source: Path) -> None:
        """Load an adapter of the transformer, a file or a folder that ``save_adapter``, a script of
        diffusers or PEFT saved, with all digits of its tensors.

        Raises AdrpoError where it also adapts another part, which a policy leaves as it is, or
        where a tensor of it fits no layer. It takes the place of an adapter that is there, which
        then says layers and rank.
        """
        if self._adapter_on:
            lora.fill(self.pipeline, source)
            return
        lora.load(self.pipeline, source)
        self._switch_on()

    def check_adapter(self, source: Path) -> None:
        """Raise AdrpoError where ``load_adapter`` would; the adapter is as it was afterwards."""
        lora.check(self.pipeline, source, has_own=self._adapter_on)

    def _switch_on(self) -> None:
        """The adapter that was added is on, and its gradients are those of the loss."""
        self._adapter_on = True
        if self._scale is not None:
            unscale_gradients(self.adapter_parameters(), self._scale)

    @property
    def _scale(self) -> float | None:
        """The loss scale, the same for all sizes of images; None where the network's type needs
        none."""
        if self.network_dtype != torch.float16:
            return None
        return loss_scale(math.prod(self.latent_shape))

    def adapter_parameters(self) -> list[nn.Parameter]:
        """The adapter's parameters in a fixed order, inside ``reference`` as well."""
        return lora.parameters(self.pipeline.transformer)

    def adapter_state(self) -> dict[str, Tensor]:
        """The adapter's values by name."""
        return lora.state(self.pipeline.transformer)

    def load_adapter_state(self, state: dict[str, Tensor]) -> None:
        """Put the values that ``adapter_state`` gave into the adapter."""
        lora.load_state(self.pipeline.transformer, state)

    def same_adapter(self, folder: Path) -> bool:
        """True where ``save_adapter`` would write the tensors that are in ``folder``."""
        return lora.is_in(self.pipeline.transformer, folder)

    def save_adapter(self, folder: Path) -> None:
        """Write the adapter as ``pipeline.load_lora_weights(folder)`` reads it."""
        lora.save(self.pipeline, folder)

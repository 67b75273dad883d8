"""Draws with any text-to-image pipeline of diffusers, trained here or not.

What ``adrpo sample`` and ``adrpo evaluate`` use for a pipeline of no supported family: it is asked
by its own call alone, so that it needs no velocity, and can't be trained.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from adrpo.config import FlowModelSection
from adrpo.data.base import Prompt
from adrpo.errors import AdrpoError
from adrpo.flow.models import lora
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.finite import all_finite
from adrpo.flow.models.loading import (
    INDEX,
    SUPPORTED,
    decode_in_parts,
    load_pipeline,
    load_with_prompts,
    locate,
    naming_the_model,
    resolve_device,
    source_of,
)
from adrpo.flow.models.negative_prompts import check_guided, tell_unread
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.models.prompt_set import PromptSet
from adrpo.flow.originals import Original, check_originals
from adrpo.flow.prompt_columns import NEGATIVE
from adrpo.runs.seeding import generator

if TYPE_CHECKING:
    from adrpo.config import SamplingSection

ASKED = ("prompt", "num_inference_steps", "guidance_scale", "generator")
"""Arguments that a pipeline's call must take."""

OPTIONAL = ("height", "width", "max_sequence_length")
"""Arguments that it must take where the key of ``model`` is set."""

NO_NEGATIVE = f"whose call takes no {NEGATIVE}"
"""Words for a pipeline that has no use for a negative prompt."""

SEED_NUMBERS = 2
"""Numbers of an x_0: the 64 bits that seed the generator of the pipeline's own noise."""


class PipelineSampler:
    """A pipeline as what draws: ``encode`` prompts, ``sample`` from noise, ``decode`` to images.

    It is a :class:`~adrpo.flow.models.protocol.Draws`, so that what evaluates a policy evaluates
    this. But only the pipeline knows its noise, its solver and its latents: x_0
    [batch, SEED_NUMBERS] seeds a generator for each image, ``sample`` is the pipeline's own call
    with them, and x_1 holds finished pixels [batch, height, width, 3]: float32 in [0, 1], or uint8
    of a pipeline that gives images alone. An image depends on its prompt and its x_0, not on what
    else is drawn.

    Args:
        pipeline: of a class that ``check_call`` accepts.
        negative_prompt: of all prompts that have none of their own; None is the call's own.
        arguments: of its call, the same for all images.
    """

    latent_shape = (SEED_NUMBERS,)

    def __init__(
        self, pipeline: Any, *, negative_prompt: str | None = None, **arguments: Any
    ) -> None:
        self.pipeline = pipeline
        self._negative_prompt = negative_prompt
        self._arguments = arguments
        if "output_type" in inspect.signature(type(pipeline).__call__).parameters:
            # Pixels as they are computed: of NaN an image would be black.
            self._arguments = {"output_type": "np", **arguments}
        self._prompts: list[tuple[str, str | None]] = []
        self._adapter_on = False

    def shape_of(self, height: int | None, width: int | None) -> tuple[int, ...]:
        """``latent_shape``: x_0 is a seed whatever the size, which is that of the call.

        Raises AdrpoError for another size than the call's.
        """
        for side, pixels in (("height", height), ("width", width)):
            own = self._arguments.get(side)
            if pixels not in (None, own):
                raise AdrpoError(
                    f"prompts: the column {side}: expected "
                    f"{f'{own}, the value of model.{side}' if own else 'none'}, for "
                    f"{type(self.pipeline).__name__}, which is of no family, and whose images have "
                    f"one size; received {pixels}; leave the column out"
                )
        return self.latent_shape

    @property
    def device(self) -> torch.device:
        return self.pipeline.device

    def encode(
        self,
        prompts: Sequence[str],
        negative_prompts: Sequence[str | None] = (),
        originals: Sequence[Original | None] = (),
    ) -> Conditioning:
        """A record of ``prompts``, which the pipeline encodes anew in each call; a warning says so
        where they have negative ones, and the call takes none. It takes no ``originals``."""
        if any(negative_prompts) and not _takes_negative(type(self.pipeline)):
            tell_unread(type(self.pipeline).__name__, NO_NEGATIVE)
            negative_prompts = ()
        own = [text or self._negative_prompt for text in negative_prompts or (None,) * len(prompts)]
        first = len(self._prompts)
        self._prompts += zip(prompts, own, strict=True)
        return Conditioning(prompt=torch.arange(first, first + len(prompts)))

    @torch.inference_mode()
    def sample(
        self, x_0: Tensor, conditioning: Conditioning, sampling: "SamplingSection"
    ) -> Tensor:
        """Pixels by the pipeline's own call and scheduler.

        Raises AdrpoError where ``sampling`` asks for another solver than the default.
        """
        if sampling.solver != "euler":
            raise AdrpoError(
                f"sampling.solver: expected euler for {type(self.pipeline).__name__}, which draws "
                f"by its own scheduler; received {sampling.solver}"
            )
        asked = [self._prompts[place] for place in conditioning.prompt.tolist()]
        negative = [text for _, text in asked]
        # Where some have none: no prompt, as the calls of diffusers have it.
        given = {NEGATIVE: [text or "" for text in negative]} if any(negative) else {}
        images = self.pipeline(
            prompt=[prompt for prompt, _ in asked],
            num_inference_steps=sampling.steps,
            guidance_scale=sampling.guidance_scale,
            generator=[noise_generator(seeds) for seeds in x_0],
            **given,
            **self._arguments,
        ).images
        if isinstance(images, np.ndarray):
            return torch.from_numpy(images)
        return torch.stack([torch.from_numpy(np.array(image.convert("RGB"))) for image in images])

    def decode(self, x_1: Tensor) -> list[Image.Image | None]:
        if x_1.dtype == torch.uint8:
            return [Image.fromarray(pixels.numpy()) for pixels in x_1]
        finite = all_finite(x_1)
        # As diffusers makes images of what it computes.
        known = x_1.masked_fill(~finite[:, None, None, None], 0).float().numpy()
        images = (Image.fromarray(own) for own in (known * 255).round().astype("uint8"))
        return [image if own else None for image, own in zip(images, finite.tolist(), strict=True)]

    def load_adapter(self, source: Path) -> None:
        """Load a LoRA adapter, a file or a folder, as ``pipeline.load_lora_weights`` does.

        Raises AdrpoError where diffusers loads none into this pipeline, or a tensor of it fits no
        layer.
        """
        self._read_adapter(source)
        self._adapter_on = True

    def check_adapter(self, source: Path) -> None:
        """Raise AdrpoError where ``load_adapter`` would; the pipeline has no adapter afterwards."""
        self._read_adapter(source)
        self.pipeline.unload_lora_weights()

    def _read_adapter(self, source: Path) -> None:
        if not hasattr(self.pipeline, "load_lora_weights"):
            raise AdrpoError(
                f"--lora: expected a pipeline that diffusers loads LoRA into; received "
                f"{type(self.pipeline).__name__}; leave --lora out"
            )
        lora.load_any(self.pipeline, source)

    @contextmanager
    def reference(self) -> Iterator[None]:
        """The pipeline without its adapter; uses nest, as those of a policy's."""
        if not self._adapter_on:
            yield
            return
        self.pipeline.disable_lora()
        self._adapter_on = False
        try:
            yield
        finally:
            self.pipeline.enable_lora()
            self._adapter_on = True


def noise_generator(x_0: Tensor) -> torch.Generator:
    """The generator that the numbers [SEED_NUMBERS] of one image seed; on the CPU, so that an
    image has the same noise on every device."""
    return generator(0, "pipeline", *x_0.float().view(torch.int32).tolist())


def load_sampler(
    model: FlowModelSection,
    prompts: Mapping[str, Sequence[Prompt]],
    *,
    negative_prompt: str | None = None,
) -> tuple[PipelinePolicy | PipelineSampler, dict[str, PromptSet]]:
    """The one that draws with ``model``: the policy of its family, or its pipeline's own call;
    and the sets of ``prompts``, encoded (:func:`~adrpo.flow.models.loading.load_with_prompts`).

    The pipeline of no family keeps its text encoders whatever ``model.encoders`` says, and caches
    no embeddings.

    Raises AdrpoError where the folder is no pipeline, or one that draws no images from prompts.
    """
    source = source_of(model)
    with naming_the_model(model.pretrained):
        _, parts = locate(source)
    if parts.get("_class_name") in SUPPORTED:
        return load_with_prompts(model, prompts, negative_prompt=negative_prompt)
    settings = {key: getattr(model, key) for key in OPTIONAL}
    arguments = {key: value for key, value in settings.items() if value is not None}
    # Before the weights are fetched.
    kind = _pipeline_class(parts.get("_class_name"), f"{INDEX} of {source}")
    check_call(kind, arguments)
    for chosen in prompts.values():
        check_originals(kind.__name__, chosen, edits=False)
    check_guided(kind.__name__, negative_prompt, guided=_takes_negative(kind), since=NO_NEGATIVE)
    with naming_the_model(model.pretrained):
        pipeline = load_pipeline(source, parts, model, with_encoders=True)
        pipeline.to(resolve_device(model.device))
        pipeline.set_progress_bar_config(disable=True)
        decode_in_parts(pipeline, model)
        sampler = PipelineSampler(pipeline, negative_prompt=negative_prompt, **arguments)
        sets = {name: PromptSet.encoded(sampler, chosen) for name, chosen in prompts.items()}
    return sampler, sets


def _pipeline_class(name: Any, where: str) -> type:
    import diffusers

    kind = getattr(diffusers, name, None) if isinstance(name, str) else None
    if not isinstance(kind, type) or not issubclass(kind, diffusers.DiffusionPipeline):
        raise AdrpoError(
            f"model.pretrained: expected a pipeline of diffusers {diffusers.__version__}; {where} "
            f"names {name}, which it does not have; update diffusers, or name another model"
        )
    return kind


def check_call(kind: type, arguments: Iterable[str]) -> None:
    """Raise AdrpoError where the call of a pipeline's class lacks one of ``ASKED``, or one of
    ``arguments``, keys of ``model`` that are set."""
    taken = inspect.signature(kind.__call__).parameters
    missing = [name for name in ASKED if name not in taken]
    if missing:
        raise AdrpoError(
            f"model.pretrained: expected a text-to-image pipeline, whose call takes "
            f"{', '.join(ASKED)}; received {kind.__name__}, whose call lacks "
            f"{', '.join(missing)}; name another model"
        )
    for name in arguments:
        if name not in taken:
            raise AdrpoError(
                f"model.{name}: expected null for {kind.__name__}, whose call takes no {name}"
            )


def _takes_negative(kind: type) -> bool:
    return NEGATIVE in inspect.signature(kind.__call__).parameters

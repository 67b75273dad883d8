"""Published models at their sizes with random weights and embeddings, and without text encoders."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import diffusers
import torch

from adrpo.config import FlowConfig, FlowModelSection
from adrpo.data import Prompt
from adrpo.flow.memory.architectures import Architecture
from adrpo.flow.memory.estimate import CLIP_TOKENS
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.embedding_cache import Embeddings
from adrpo.flow.models.loading import SUPPORTED, as_policy, resolve_device, switch_on
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.models.prompt_set import PromptSet
from adrpo.flow.training.adrpo import FlowTrainer


@dataclass(frozen=True, kw_only=True)
class Family:
    """The parts of a pipeline beside a transformer of ``transformer``'s class.

    ``encoders`` are the endings of its text encoders' names, ``ahead`` the tokens in front of T5's,
    ``vae`` the keys of the autoencoder that adrpo/flow/memory/architectures.py leaves out.
    """

    transformer: str
    encoders: tuple[str, ...]
    ahead: int
    scheduler: dict[str, Any]
    vae: dict[str, Any]
    autoencoder: str = "AutoencoderKL"


_STAGES = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
_KL = {**_STAGES, "use_quant_conv": False, "use_post_quant_conv": False}

FAMILIES = {
    "StableDiffusion3Pipeline": Family(
        transformer="SD3Transformer2DModel",
        encoders=("", "_2", "_3"),
        ahead=CLIP_TOKENS,
        scheduler={"shift": 3.0},
        vae={**_KL, "scaling_factor": 1.5305, "shift_factor": 0.0609},
    ),
    "FluxPipeline": Family(
        transformer="FluxTransformer2DModel",
        encoders=("", "_2"),
        ahead=0,
        scheduler={"shift": 3.0, "use_dynamic_shifting": True},
        vae={**_KL, "scaling_factor": 0.3611, "shift_factor": 0.1159},
    ),
    "Flux2KleinPipeline": Family(
        transformer="Flux2Transformer2DModel",
        encoders=("",),
        ahead=0,
        scheduler={"shift": 3.0, "use_dynamic_shifting": True},
        vae=_STAGES,
        autoencoder="AutoencoderKLFlux2",
    ),
    "WanPipeline": Family(
        transformer="WanTransformer3DModel",
        encoders=("",),
        ahead=0,
        scheduler={"shift": 3.0},
        vae={},
        autoencoder="AutoencoderKLWan",
    ),
}
"""Class of a pipeline -> its parts."""


@contextmanager
def _made_of(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def random_parts(
    architecture: Architecture, dtype: torch.dtype, *, quantization: str | None = None
) -> tuple[Any, Any]:
    """Transformer and autoencoder, on the current default device."""
    family = FAMILIES[architecture.family]
    kind = getattr(diffusers, family.transformer)
    with _made_of(dtype):
        if quantization is None:
            transformer = kind(**architecture.transformer)
        else:
            assert quantization == "int8", "the only form that is made of random weights"
            with torch.device("meta"):
                transformer = kind(**architecture.transformer)
            fill_quantized(transformer, torch.get_default_device())
        # One that was read from files has all keys, those of its family among them; and lists, as
        # Wan's needs them.
        sizes = {**family.vae, **architecture.vae}
        sizes = {key: list(n) if isinstance(n, tuple) else n for key, n in sizes.items()}
        vae = getattr(diffusers, family.autoencoder)(**sizes)
    for module in transformer.modules():
        # SD3's table of positions is made in float32, and read from files in the weights' type.
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(dtype))
    return transformer, vae


def fill_quantized(transformer: Any, device: torch.device) -> None:
    """Random weights for a transformer of the meta device, those of linear layers in 8 bits.

    One layer after the other, since all in 16 bits may be more than the device has.
    """
    from torchao.quantization import (  # pyright: ignore[reportMissingImports]
        Int8WeightOnlyConfig,
        quantize_,
    )

    assert not list(transformer.buffers()), "buffers have values that a constructor gives"
    transformer.requires_grad_(False)
    for module in transformer.modules():
        weights = list(module.parameters(recurse=False))
        if not weights:
            continue
        module.to_empty(device=device, recurse=False)
        if isinstance(module, torch.nn.Linear):
            module.reset_parameters()
            quantize_(module, Int8WeightOnlyConfig())
            continue
        for weight in module.parameters(recurse=False):
            torch.nn.init.ones_(weight)  # of norms


def random_pipeline(architecture: Architecture, transformer: Any, vae: Any) -> Any:
    family = FAMILIES[architecture.family]
    absent: dict[str, Any] = {
        f"{part}{ending}": None
        for part in ("tokenizer", "text_encoder")
        for ending in family.encoders
    }
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**family.scheduler)
    pipeline = getattr(diffusers, architecture.family)
    return pipeline(transformer=transformer, vae=vae, scheduler=scheduler, **absent)


def random_embeddings(
    architecture: Architecture, transformer: Any, prompts: Iterable[Sequence[Prompt]]
) -> Embeddings:
    """Embeddings of sets of ``prompts``, and of no prompt, in the transformer's type."""
    family, policy = FAMILIES[architecture.family], SUPPORTED[architecture.family]
    embeddings = Embeddings(keep=True)
    for texts in (None, *([prompt.text for prompt in chosen] for chosen in prompts)):
        rows = 1 if texts is None else len(texts)
        sizes = (family.ahead + policy.tokens, architecture.context_width)
        tensors = {"context": torch.randn(rows, *sizes)}
        if "pooled_projection_dim" in transformer.config:
            tensors["pooled"] = torch.randn(rows, transformer.config.pooled_projection_dim)
        tensors = {part: tensor.to(transformer.dtype) for part, tensor in tensors.items()}
        embeddings.add(texts, Conditioning(**tensors))
    return embeddings


def random_policy(
    architecture: Architecture,
    model: FlowModelSection,
    prompts: Mapping[str, Sequence[Prompt]],
    *,
    negative_prompt: None = None,
    engine: None = None,
) -> tuple[PipelinePolicy, dict[str, PromptSet]]:
    """The policy and prompts of ``load_with_prompts``, of random weights in the published sizes."""
    assert engine is None, "one process measures one device"
    torch.manual_seed(0)
    device = resolve_device(model.device)
    with device:
        transformer, vae = random_parts(
            architecture, getattr(torch, model.dtype), quantization=model.quantization
        )
    pipeline = random_pipeline(architecture, transformer, vae)
    embeddings = random_embeddings(architecture, transformer, prompts.values())
    switch_on(pipeline, model, device)
    policy = as_policy(pipeline, height=model.height, width=model.width, embeddings=embeddings)
    return policy, {name: PromptSet.encoded(policy, chosen) for name, chosen in prompts.items()}


def random_trainer(architecture: Architecture, config: FlowConfig) -> FlowTrainer:
    """A trainer whose model has random weights in the published sizes, and none to load."""
    loader = partial(random_policy, architecture)
    with mock.patch("adrpo.flow.training.loop.load_with_prompts", loader):
        return FlowTrainer(config)

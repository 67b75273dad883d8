"""Loads a diffusers pipeline as the policy of its family."""

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from adrpo.config import FlowModelSection
from adrpo.config.documents import shorten
from adrpo.data.base import Prompt
from adrpo.embedded.weights import weights_path
from adrpo.errors import AdrpoError, AdrpoWarning, or_did_you_mean, reading
from adrpo.flow.models.embedding_cache import EmbeddingCache, Embeddings, encoder_identity
from adrpo.flow.models.encoders import ENCODER, text_encoders
from adrpo.flow.models.families.flux import FluxKontextPolicy, FluxPolicy
from adrpo.flow.models.families.flux2 import Flux2KleinPolicy, Flux2Policy
from adrpo.flow.models.families.qwen_image import QwenImageEditPolicy, QwenImagePolicy
from adrpo.flow.models.families.sana import SanaPolicy
from adrpo.flow.models.families.stable_diffusion_3 import StableDiffusion3Policy
from adrpo.flow.models.families.wan import WanPolicy
from adrpo.flow.models.families.z_image import ZImagePolicy
from adrpo.flow.models.negative_prompts import check_guided
from adrpo.flow.models.part_files import check_parts, try_decoding
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.models.processors import processors
from adrpo.flow.models.prompt_set import PromptSet
from adrpo.flow.models.quantization import quantization_config
from adrpo.flow.originals import check_originals
from adrpo.runs.model_folder import check_finite, refuse_adapter, whole_models
from adrpo.runs.processes import Engine

SUPPORTED: dict[str, type[PipelinePolicy]] = {
    "Flux2KleinPipeline": Flux2KleinPolicy,
    "Flux2Pipeline": Flux2Policy,
    "FluxKontextPipeline": FluxKontextPolicy,
    "FluxPipeline": FluxPolicy,
    "QwenImageEditPipeline": QwenImageEditPolicy,
    "QwenImagePipeline": QwenImagePolicy,
    "SanaPipeline": SanaPolicy,
    "StableDiffusion3Pipeline": StableDiffusion3Policy,
    "WanPipeline": WanPolicy,
    "ZImagePipeline": ZImagePolicy,
}
"""Name of a diffusers pipeline's class -> its policy."""

INDEX = "model_index.json"
"""File that names a pipeline's class and parts."""


def resolve_device(device: str) -> torch.device:
    """``auto`` is the accelerator where there is one, else the CPU."""
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _check_family(name: Any, where: str) -> None:
    if not isinstance(name, str) or name not in SUPPORTED:
        raise AdrpoError(
            f"model.pretrained: expected one of {', '.join(SUPPORTED)}; {where} names {name}; "
            f"docs/extend/add-a-model.md tells how to add a family"
        )


@contextmanager
def naming_the_model(pretrained: str) -> Iterator[None]:
    """A context in which errors of a folder, or on the way to the Hub, become AdrpoErrors."""
    # A misspelt folder of a run or a model has the form of an id, too.
    known = pretrained == "embedded" or os.path.isdir(pretrained)
    expected = (
        f"model.pretrained: expected 'embedded', a folder in diffusers' layout or an id on the "
        f"Hugging Face Hub; received {shorten(pretrained, 200)}"
    )
    if not known and "/" not in pretrained:
        hint = or_did_you_mean(pretrained) or "; mend its name; an id is OWNER/NAME"
        raise AdrpoError(f"{expected}, which is no folder here{hint}")
    place = "" if known else ", which is no folder here"
    mend = "download it again, or name another" if known else "mend its name, or go online"
    with reading(f"{expected}{place}", mend):
        yield


def _tokens(model: FlowModelSection, parts: Mapping[str, Any], own: int) -> int:
    """Tokens of the long encoding of a pipeline of ``parts``, whose call takes ``own``.

    Warns where they are one, as flow/adrpo has it, and the model has a T5 or another long encoder.
    """
    if model.pretrained == "embedded":
        return model.max_sequence_length or 1
    name = parts["_class_name"]
    without = name == "StableDiffusion3Pipeline" and not any(parts.get("text_encoder_3") or ())
    if model.max_sequence_length == 1 and not without:
        warnings.warn(
            f"model.max_sequence_length: expected more than the 1 token of flow/adrpo, whose model "
            f"has no T5: the long encoder of {name} sees no prompt; set it to null, which takes "
            f"{own}",
            AdrpoWarning,
            stacklevel=5,
        )
    return model.max_sequence_length or own


def source_of(model: FlowModelSection) -> str | Path:
    """The folder or Hub id of ``model``."""
    return weights_path("pipeline") if model.pretrained == "embedded" else model.pretrained


def locate(source: str | Path) -> tuple[Path, dict[str, Any]]:
    """Folder and index of a folder or a Hub id; the folder of a Hub id is its snapshot, which
    holds no more than the index yet."""
    from huggingface_hub import hf_hub_download

    folder = Path(source)
    index = folder / INDEX if folder.is_dir() else Path(hf_hub_download(str(source), INDEX))
    if not index.is_file():
        refuse_adapter(str(source), folder)
        raise AdrpoError(
            f"model.pretrained: expected a folder in diffusers' layout; {folder} has no {INDEX}"
        )
    parts = json.loads(index.read_text(encoding="utf-8"))
    if not isinstance(parts, dict):
        raise AdrpoError(
            f"model.pretrained: expected the names of a pipeline's parts in {index}; received "
            f"{shorten(parts)}; download the model again or name another folder"
        )
    return index.parent, parts


def family_of(model: FlowModelSection) -> type[PipelinePolicy] | None:
    """The policy's class of ``model``, by its index alone; None for a pipeline of no family.

    Raises AdrpoError where there is no such folder or id.
    """
    with naming_the_model(model.pretrained):
        _, parts = locate(source_of(model))
    return SUPPORTED.get(str(parts.get("_class_name")))


def load_pipeline(
    source: str | Path, parts: dict[str, Any], model: FlowModelSection, *, with_encoders: bool
) -> Any:
    """The pipeline on the CPU; without encoders theirs are neither fetched nor read."""
    from diffusers import DiffusionPipeline, ModelMixin
    from transformers import PreTrainedModel

    # The parts that the pipeline does without (a T5 encoder, say), as diffusers wants them.
    absent: dict[str, Any] = {
        part: None
        for part, kind in parts.items()
        if kind == [None, None] or (part.startswith(ENCODER) and not with_encoders)
    }
    where = f"model.pretrained: {source}"
    with whole_models(where, PreTrainedModel), whole_models(where, ModelMixin):
        return DiffusionPipeline.from_pretrained(
            source,
            dtype=getattr(torch, model.dtype),
            quantization_config=quantization_config(model, parts),
            **absent,
            **processors(str(source), parts),
        )


def load_policy(
    model: FlowModelSection,
    *,
    negative_prompt: str | None = None,
    engine: Engine | None = None,
) -> PipelinePolicy:
    """The policy of ``model``, without an adapter and with its text encoders; with an ``engine``
    all processes call this together, and each keeps a shard of the transformer.
    ``negative_prompt`` as for ``PipelinePolicy``.

    Raises AdrpoError where the folder is no pipeline, has no weights or is of a class that is
    not supported, its autoencoder has no tiles or slices where they are asked for, or an ``engine``
    meets quantised or compiled weights, or ZeRO-3 no gradient checkpointing.
    """
    return _load(model, None, negative_prompt, engine)[0]


def load_with_prompts(
    model: FlowModelSection,
    prompts: Mapping[str, Sequence[Prompt]],
    *,
    negative_prompt: str | None = None,
    engine: Engine | None = None,
) -> tuple[PipelinePolicy, dict[str, PromptSet]]:
    """The policy of ``model`` as ``load_policy`` loads it, and the sets of ``prompts``, encoded.

    With ``model.encoders`` "released" they are encoded before anything but the text encoders is on
    the device, and the encoders are gone afterwards: what isn't in a set can't be encoded any more.
    Where ``model.embedding_cache`` has all sets, the encoders aren't loaded.
    """
    return _load(model, prompts, negative_prompt, engine)


def _load(
    model: FlowModelSection,
    prompts: Mapping[str, Sequence[Prompt]] | None,
    negative_prompt: str | None,
    engine: Engine | None,
) -> tuple[PipelinePolicy, dict[str, PromptSet]]:
    if engine is not None:
        _check_shards(model, engine)
    source = source_of(model)
    release = model.encoders == "released" and prompts is not None
    wanted = prompts or {}
    device = resolve_device(model.device)
    with naming_the_model(model.pretrained):
        folder, parts = locate(source)
        # Before the weights are fetched.
        _check_family(parts.get("_class_name"), f"{INDEX} of {source}")
        if Path(source).is_dir():
            check_parts(folder)
        family = SUPPORTED[parts["_class_name"]]
        tokens = _tokens(model, parts, family.tokens)
        family.check_tokens(parts["_class_name"], tokens)
        embeddings = _embeddings(model, folder, family, tokens, device, keep=release)
        guided = not (family.distilled or parts.get("is_distilled"))
        check_guided(parts["_class_name"], negative_prompt, guided=guided)
        for chosen in wanted.values():
            check_originals(parts["_class_name"], chosen, edits=family.edits)
        needed = family.needed(list(wanted.values()), negative_prompt, guided=guided)
        # A list: each file that is damaged says so.
        warm = release and all([embeddings.find(prompts) is not None for prompts in needed])
        pipeline = load_pipeline(source, parts, model, with_encoders=not warm)
        if model.quantization is None:
            for part in ("transformer", "vae"):
                check_finite(folder / part, dict(getattr(pipeline, part).named_parameters()))
        for part in _encoding(pipeline, family) if release else _movable(pipeline, engine):
            part.to(device)
        pipeline.set_progress_bar_config(disable=True)
        # Within the block, too: parts that don't fit each other are the files' fault.
        policy = as_policy(
            pipeline,
            max_sequence_length=tokens,
            height=model.height,
            width=model.width,
            encoder_batch_size=model.encoder_batch_size,
            embeddings=embeddings,
            device=device if release or engine else None,  # the transformer is not there yet
            negative_prompt=negative_prompt,
        )
        try_decoding(policy)
        sets = {name: PromptSet.encoded(policy, chosen) for name, chosen in wanted.items()}
    if release:
        policy.release_encoders()
        for part in _movable(pipeline, engine):
            part.to(device)
    if engine is not None:
        policy.shard(engine)
    switch_on(pipeline, model, device)
    return policy, sets


def switch_on(pipeline: Any, model: FlowModelSection, device: torch.device) -> None:
    """Switch on what ``model`` asks of the loaded parts; AdrpoError where they can't."""
    if model.gradient_checkpointing:
        pipeline.transformer.enable_gradient_checkpointing()
    decode_in_parts(pipeline, model)
    if model.compile:
        compile_transformer(pipeline.transformer, device)


def _check_shards(model: FlowModelSection, engine: Engine) -> None:
    """Raise AdrpoError for what has not been tried with shards, or would undo them."""
    wanted: dict[str, bool | None] = {"quantization": None, "compile": False}
    if engine == "ZeRO-3":
        # Autograd keeps what a layer multiplied by, and ZeRO-3's gathered weights with it.
        wanted["gradient_checkpointing"] = True
    for key, expected in wanted.items():
        if getattr(model, key) != expected:
            raise AdrpoError(
                f"model.{key}: expected {json.dumps(expected)} with {engine}; received "
                f"{json.dumps(getattr(model, key))}"
            )


def _encoding(pipeline: Any, family: type[PipelinePolicy]) -> list[torch.nn.Module]:
    """The parts that encode prompts, and originals where the ``family`` edits them."""
    return [*text_encoders(pipeline).values(), *([pipeline.vae] if family.edits else [])]


def _movable(pipeline: Any, engine: Engine | None) -> list[Any]:
    """Parts to move to the device: the pipeline, or all modules of it but the transformer, which an
    ``engine`` moves."""
    if engine is None:
        return [pipeline]
    return [
        part
        for name, part in pipeline.components.items()
        if isinstance(part, torch.nn.Module) and name != "transformer"
    ]


def compile_transformer(transformer: torch.nn.Module, device: torch.device) -> None:
    """Compile ``transformer`` in place at its first call; an adapter may be added before that.

    Raises AdrpoError on a CPU without a C++ compiler, which would be missed only then.
    """
    from torch.utils.cpp_extension import get_cxx_compiler

    compiler = get_cxx_compiler()
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise AdrpoError(
            f"model.compile: expected a C++ compiler, which torch.compile needs on a CPU; "
            f"{compiler} can't be found; install one, name it in CXX, or set model.compile=false"
        )
    transformer.compile()


def _embeddings(
    model: FlowModelSection,
    folder: Path,
    family: type[PipelinePolicy],
    tokens: int,
    device: torch.device,
    *,
    keep: bool,
) -> Embeddings:
    """The embeddings that need not be computed, in memory and in the cache's folder."""
    if model.embedding_cache is None:
        return Embeddings(keep=keep)
    identity = {
        "model": model.pretrained,
        "encoders": encoder_identity(folder, family.encoding_parts),
        "family": family.__name__,
        "max_sequence_length": tokens,
        "dtype": model.dtype,
        "device": device.type,
        "batch_size": model.encoder_batch_size,
        # Of a row that names none; prompts alone are the same at any size.
        **({"height": model.height, "width": model.width} if family.edits else {}),
    }
    return Embeddings(EmbeddingCache(Path(model.embedding_cache).expanduser(), identity), keep=keep)


def decode_in_parts(pipeline: Any, model: FlowModelSection) -> None:
    """Switch on tiles and slices where ``model`` asks for them.

    Raises AdrpoError where the autoencoder has none.
    """
    for key, switch in (("vae_tiling", "enable_tiling"), ("vae_slicing", "enable_slicing")):
        if not getattr(model, key):
            continue
        try:
            getattr(pipeline.vae, switch)()
        except (AttributeError, NotImplementedError) as error:
            raise AdrpoError(
                f"model.{key}: expected false for {type(pipeline.vae).__name__}, which diffusers "
                f"does not decode in parts; received true; lower evaluation.batch_size and "
                f"training.micro_batch_size instead"
            ) from error


def as_policy(
    pipeline: Any,
    *,
    max_sequence_length: int | None = None,
    height: int | None = None,
    width: int | None = None,
    encoder_batch_size: int | None = None,
    embeddings: Embeddings | None = None,
    device: torch.device | None = None,
    negative_prompt: str | None = None,
) -> PipelinePolicy:
    """The policy of a loaded ``pipeline``, by its class; arguments as for ``PipelinePolicy``.

    Raises AdrpoError where its class is not supported.
    """
    name = type(pipeline).__name__
    _check_family(name, "the pipeline's class")
    return SUPPORTED[name](
        pipeline,
        max_sequence_length=max_sequence_length,
        height=height,
        width=width,
        encoder_batch_size=encoder_batch_size,
        embeddings=embeddings,
        device=device,
        negative_prompt=negative_prompt,
    )

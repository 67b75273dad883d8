"""Loads a diffusers pipeline as the policy of its family."""

import json
from pathlib import Path
from typing import Any

import torch

from adrpo.config import ModelConfig
from adrpo.embedded.weights import weights_path
from adrpo.errors import AdrpoError
from adrpo.flow.families.flux import FluxPolicy
from adrpo.flow.families.qwen_image import QwenImagePolicy
from adrpo.flow.families.sana import SanaPolicy
from adrpo.flow.families.stable_diffusion_3 import StableDiffusion3Policy
from adrpo.flow.families.z_image import ZImagePolicy
from adrpo.flow.pipeline_policy import PipelinePolicy

SUPPORTED: dict[str, type[PipelinePolicy]] = {
    "FluxPipeline": FluxPolicy,
    "QwenImagePipeline": QwenImagePolicy,
    "SanaPipeline": SanaPolicy,
    "StableDiffusion3Pipeline": StableDiffusion3Policy,
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
            f"docs/add-a-model.md tells how to add a family"
        )


def _check_weights(folder: Path) -> None:
    for part in ("transformer", "vae"):
        if not any((folder / part).glob("*.safetensors*")):
            raise AdrpoError(
                f"model.pretrained: {folder / part} holds no weights (*.safetensors); "
                f"download the model again or name another folder"
            )


def _load_pipeline(source: str | Path, dtype: torch.dtype) -> Any:
    """The pipeline of a folder or a Hub id; its class is checked before its weights are fetched."""
    from diffusers import DiffusionPipeline
    from huggingface_hub import hf_hub_download

    folder = Path(source)
    index = folder / INDEX if folder.is_dir() else Path(hf_hub_download(str(source), INDEX))
    if not index.is_file():
        raise AdrpoError(
            f"model.pretrained: expected a folder in diffusers' layout; {folder} has no {INDEX}"
        )
    parts = json.loads(index.read_text(encoding="utf-8"))
    _check_family(parts.get("_class_name"), f"{INDEX} of {source}")
    if folder.is_dir():
        _check_weights(folder)
    # The parts that the pipeline does without (a T5 encoder, say), as diffusers wants them.
    absent: dict[str, Any] = {part: None for part, kind in parts.items() if kind == [None, None]}
    return DiffusionPipeline.from_pretrained(source, dtype=dtype, **absent)


def load_policy(model: ModelConfig) -> PipelinePolicy:
    """The policy of ``model``, without an adapter.

    Raises AdrpoError where the folder is no pipeline, has no weights or is of a class that is
    not supported.
    """
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    embedded = model.pretrained == "embedded"
    source = weights_path("pipeline") if embedded else model.pretrained
    try:
        pipeline = _load_pipeline(source, getattr(torch, model.dtype))
    except (OSError, HFValidationError, RepositoryNotFoundError) as error:
        raise AdrpoError(
            f"model.pretrained: expected 'embedded', a folder in diffusers' layout or an id on "
            f"the Hugging Face Hub; received {model.pretrained!r}, which can't be loaded: "
            f"{str(error).strip().splitlines()[0]}"
        ) from error
    pipeline.to(resolve_device(model.device))
    pipeline.set_progress_bar_config(disable=True)
    return as_policy(
        pipeline,
        max_sequence_length=model.max_sequence_length or (1 if embedded else None),
        height=model.height,
        width=model.width,
    )


def as_policy(
    pipeline: Any,
    *,
    max_sequence_length: int | None = None,
    height: int | None = None,
    width: int | None = None,
) -> PipelinePolicy:
    """The policy of a loaded ``pipeline``, by its class; arguments as for ``PipelinePolicy``.

    Raises AdrpoError where its class is not supported.
    """
    name = type(pipeline).__name__
    _check_family(name, "the pipeline's class")
    return SUPPORTED[name](
        pipeline, max_sequence_length=max_sequence_length, height=height, width=width
    )

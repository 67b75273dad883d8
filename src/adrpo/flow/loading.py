"""Loads a diffusers pipeline as a policy."""

import json
from pathlib import Path

import torch

from adrpo.config import ModelConfig
from adrpo.embedded.weights import weights_path
from adrpo.errors import AdrpoError
from adrpo.flow.policy import StableDiffusion3Policy

SUPPORTED = {"StableDiffusion3Pipeline": StableDiffusion3Policy}


def resolve_device(device: str) -> torch.device:
    """``auto`` is the accelerator where there is one, else the CPU."""
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _check_folder(folder: Path) -> dict[str, None]:
    """The parts that the pipeline does without (a T5 encoder, say), as diffusers wants them."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise AdrpoError(
            f"model.pretrained: expected a folder in diffusers' layout; {folder} has no "
            f"model_index.json"
        )
    parts = json.loads(index.read_text(encoding="utf-8"))
    name = parts.get("_class_name")
    if name not in SUPPORTED:
        raise AdrpoError(
            f"model.pretrained: expected one of {', '.join(SUPPORTED)}; {index} names {name}"
        )
    for part in ("transformer", "vae"):
        if not any((folder / part).glob("*.safetensors*")):
            raise AdrpoError(
                f"model.pretrained: {folder / part} holds no weights (*.safetensors); "
                f"download the model again or name another folder"
            )
    return {part: None for part, kind in parts.items() if kind == [None, None]}


def load_policy(model: ModelConfig) -> StableDiffusion3Policy:
    """The policy of ``model``, without an adapter.

    Raises AdrpoError where the folder is no pipeline, has no weights or is of a class that is
    not supported.
    """
    from diffusers import StableDiffusion3Pipeline
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    source: str | Path = model.pretrained
    if model.pretrained == "embedded":
        source = weights_path("pipeline")
    absent = _check_folder(Path(source)) if Path(source).is_dir() else {}
    dtype = getattr(torch, model.dtype)
    try:
        pipeline = StableDiffusion3Pipeline.from_pretrained(source, dtype=dtype, **absent)
    except (OSError, HFValidationError, RepositoryNotFoundError) as error:
        raise AdrpoError(
            f"model.pretrained: expected 'embedded', a folder in diffusers' layout or an id on "
            f"the Hugging Face Hub; received {model.pretrained!r}, which can't be loaded: "
            f"{str(error).strip().splitlines()[0]}"
        ) from error
    pipeline.to(resolve_device(model.device))
    pipeline.set_progress_bar_config(disable=True)
    return StableDiffusion3Policy(
        pipeline,
        max_sequence_length=model.max_sequence_length,
        height=model.height,
        width=model.width,
    )

"""Checks of a pipeline's parts, before they are built and before they are relied on.

Diffusers builds what a part's settings say and reads its weights into it: absurd settings become
gigabytes of layers, or an error in the first image's arithmetic.
"""

import re
from pathlib import Path

import torch

from adrpo.errors import AdrpoError
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.runs.model_folder import part_settings

SETTINGS = "config.json"
_LAYERS = re.compile(r"num_\w*layers|layers_per_block")
SIDE = 8
"""Height and width of the latents that are tried: a few milliseconds."""


def check_parts(folder: Path) -> None:
    """Raise AdrpoError where transformer or autoencoder of a pipeline's ``folder`` has no weights,
    or where a part's settings name more layers than it has tensors."""
    for part in ("transformer", "vae"):
        if not any((folder / part).glob("*.safetensors*")):
            raise AdrpoError(
                f"model.pretrained: {folder / part} holds no weights (*.safetensors); "
                f"download the model again or name another folder"
            )
    for file in sorted(folder.glob(f"*/{SETTINGS}")):
        layers = {
            key: value
            for key, value in part_settings(file).items()
            if _LAYERS.fullmatch(key) and isinstance(value, int)
        }
        most = max(layers, key=lambda key: layers[key], default=None)
        tensors = _count_tensors(file.parent)
        if most is not None and tensors and layers[most] > tensors:
            raise AdrpoError(
                f"model.pretrained: expected {file} to name as many layers as there are weights "
                f"for; received {most} {layers[most]} with {tensors} tensors; download it again"
            )


def try_decoding(policy: PipelinePolicy) -> None:
    """Decode latents of zeros once: of an autoencoder whose settings fit no arithmetic an error of
    any class is raised here, and not after the first samples."""
    vae = policy.pipeline.vae
    policy.decode(torch.zeros(1, policy.geometry.channels, SIDE, SIDE, device=vae.device))


def _count_tensors(folder: Path) -> int:
    from safetensors import safe_open

    count = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="pt") as opened:
            count += len(opened.keys())
    return count

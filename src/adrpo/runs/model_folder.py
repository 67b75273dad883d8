"""A folder that is named as a model."""

import json
from pathlib import Path

from adrpo.errors import AdrpoError

ADAPTER_CONFIG = "adapter_config.json"
"""File that PEFT writes beside an adapter's weights, with their scale in it."""

MODELS = ("config.json", "model_index.json")
LORA_WEIGHTS = "pytorch_lora_weights.safetensors"
"""File of an adapter that diffusers writes."""


def refuse_adapter(name: str, folder: Path) -> None:
    """Raise AdrpoError where the folder ``name`` holds an adapter, and no model to put it on."""
    if any((folder / model).is_file() for model in MODELS):
        return
    if not any((folder / file).is_file() for file in (ADAPTER_CONFIG, LORA_WEIGHTS)):
        return
    base = _base(folder / ADAPTER_CONFIG)
    raise AdrpoError(
        f"model.pretrained: expected a model, received {name}, an adapter"
        f"{f' of {base}' if base else ''}; name its model{f' ({base})' if base else ''} there; "
        f"adrpo sample and evaluate take the adapter beside it, as --lora {name}"
    )


def _base(path: Path) -> str | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) and found else None

"""The file of an adapter as diffusers' ``load_lora_weights`` reads it, the same bytes each time."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

WEIGHTS_NAME = "pytorch_lora_weights.safetensors"


def write_adapter(
    folder: Path, pipeline: Any, state: dict[str, Tensor], metadata: dict[str, Any]
) -> None:
    """Write the adapter ``state`` of the transformer, with PEFT's ``metadata``, into ``folder``."""
    # A set's order differs from process to process, and with it the bytes of the file.
    metadata = metadata | {"target_modules": sorted(metadata["target_modules"])}
    pipeline.save_lora_weights(
        save_directory=folder,
        transformer_lora_layers=state,
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

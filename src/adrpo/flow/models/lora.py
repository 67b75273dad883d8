"""The LoRA adapter of a pipeline's transformer: made, read, and kept as diffusers reads it.

It is float32 in training, sampling and evaluation alike, whatever the type of the frozen weights:
a run that is loaded again is the one that was trained.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from adrpo.errors import AdrpoError

if TYPE_CHECKING:
    from adrpo.config import AdapterSection

ADAPTER = "default"
"""PEFT's name of the adapter."""

WEIGHTS_NAME = "pytorch_lora_weights.safetensors"


def add(transformer: Any, settings: "AdapterSection", usual: Sequence[str]) -> None:
    """Add a new adapter: A Gaussian, B zero, drawn from torch's global generator.

    ``usual`` are the target modules where ``settings`` name none.

    Raises AdrpoError where the transformer has no such modules.
    """
    from peft import LoraConfig

    targets = settings.target_modules or usual
    try:
        transformer.add_adapter(
            LoraConfig(
                r=settings.rank,
                # PEFT divides by the rank, and takes any number in spite of its hint.
                lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType]
                init_lora_weights="gaussian",
                target_modules=list(targets),
            ),
            adapter_name=ADAPTER,
        )
    except ValueError as error:
        raise AdrpoError(
            f"adapter.target_modules: expected names of linear layers of the transformer, "
            f"such as {', '.join(usual)}; "
            f"received {list(targets)}: {str(error).splitlines()[0]}"
        ) from error
    _in_float32(transformer)


def load(pipeline: Any, folder: Path) -> None:
    """Add the adapter in ``folder``, with all digits of its file.

    Raises AdrpoError where it also adapts another part than the transformer.
    """
    from diffusers.utils import convert_unet_state_dict_to_peft

    values, metadata = pipeline.lora_state_dict(folder, return_lora_metadata=True)
    others = sorted({key.split(".")[0] for key in values} - {"transformer"})
    if others:
        raise AdrpoError(
            f"{folder}: expected an adapter of the transformer alone; received one of "
            f"{', '.join(others)} as well; load it with the pipeline's load_lora_weights"
        )
    # load_lora_weights would warn that the text encoders have no adapter.
    pipeline.transformer.load_lora_adapter(
        values, adapter_name=ADAPTER, metadata=metadata, _pipeline=pipeline
    )
    _in_float32(pipeline.transformer)
    # diffusers has rounded the values to the base's type. Old files have other names for them.
    values = convert_unet_state_dict_to_peft(values)
    load_state(
        pipeline.transformer,
        {name.removeprefix("transformer."): value for name, value in values.items()},
    )


def _in_float32(transformer: nn.Module) -> None:
    for parameter in parameters(transformer):
        parameter.data = parameter.data.float()


def parameters(transformer: nn.Module) -> list[nn.Parameter]:
    """The adapter's parameters in a fixed order, whether it is switched on or off."""
    # Not those that require a gradient: switching the adapter off takes that from them.
    return [value for name, value in transformer.named_parameters() if f".{ADAPTER}." in name]


def state(transformer: nn.Module) -> dict[str, Tensor]:
    """The adapter's values by PEFT's names."""
    from peft import get_peft_model_state_dict

    return get_peft_model_state_dict(transformer, adapter_name=ADAPTER)


def load_state(transformer: nn.Module, values: dict[str, Tensor]) -> None:
    """Put the values that ``state`` gave into the adapter."""
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(transformer, values, adapter_name=ADAPTER)


def save(pipeline: Any, folder: Path) -> None:
    """Write the adapter as ``pipeline.load_lora_weights(folder)`` reads it; the same adapter gives
    the same bytes."""
    transformer = pipeline.transformer
    metadata = transformer.peft_config[ADAPTER].to_dict()
    # A set's order differs from process to process, and with it the bytes of the file.
    metadata["target_modules"] = sorted(metadata["target_modules"])
    pipeline.save_lora_weights(
        save_directory=folder,
        transformer_lora_layers=state(transformer),
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

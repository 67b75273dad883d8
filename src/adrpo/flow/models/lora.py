"""The LoRA adapter of a pipeline's transformer: made, read, and kept as diffusers reads it.

It is float32 in training, sampling and evaluation alike, whatever the type of the frozen weights:
a run that is loaded again is the one that was trained.
"""

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from adrpo.errors import AdrpoError
from adrpo.flow.models.lora_files import (
    ADVICE,
    PEFT_PREFIX,
    check_fits,
    convert,
    is_peft,
    listed,
    naming_the_file,
    of_all_layers,
    weights_file,
)
from adrpo.runs.model_folder import LORA_WEIGHTS, check_finite

if TYPE_CHECKING:
    from adrpo.config import AdapterSection

ADAPTER = "default"
"""PEFT's name of the adapter."""

READ = "read"
"""PEFT's name of an adapter while it is read into another one."""

WEIGHTS_NAME = LORA_WEIGHTS
"""File of an adapter in a run's folders."""


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


def load(pipeline: Any, source: Path, name: str = ADAPTER) -> None:
    """Add the adapter in ``source``, a file or a folder of diffusers or PEFT, with all digits of
    its tensors: what ``pipeline.load_lora_weights`` makes of it.

    Raises AdrpoError where it also adapts another part than the transformer, where diffusers does
    not read it, or where a tensor of it fits no layer.
    """
    if is_peft(source):
        _load_pefts(pipeline, source, name)
        return
    file = weights_file(source)
    parts = convert(pipeline, file)
    if others := sorted(parts.keys() - {"transformer"}):
        raise AdrpoError(
            f"{source}: expected an adapter of the transformer alone; received one of "
            f"{', '.join(others)} as well; load it with the pipeline's load_lora_weights"
        )
    values = parts.get("transformer", {})
    _check_values(source, pipeline.transformer, values)
    with naming_the_file(pipeline, file), of_all_layers(source):
        pipeline.load_lora_weights(str(file), adapter_name=name)
    _take(pipeline.transformer, source, values, name)


def load_any(pipeline: Any, source: Path) -> None:
    """Add the adapter in ``source`` to whichever parts of ``pipeline`` it adapts, as
    ``pipeline.load_lora_weights`` does.

    Raises AdrpoError as ``load``, but for the parts.
    """
    if is_peft(source) and hasattr(pipeline, "transformer"):
        _load_pefts(pipeline, source, ADAPTER)
        return
    file = weights_file(source)
    parts = convert(pipeline, file)
    for part, values in parts.items():
        _check_values(source, getattr(pipeline, part), values)
    with naming_the_file(pipeline, file), of_all_layers(source):
        pipeline.load_lora_weights(str(file), adapter_name=ADAPTER)


def fill(pipeline: Any, source: Path) -> None:
    """Give the adapter that is there the update of the one in ``source``, whatever its scale.

    Raises AdrpoError as ``load``, and where it has other layers or another rank.
    """
    transformer = pipeline.transformer
    with warnings.catch_warnings():
        # There are two adapters, for as long as the second is read.
        warnings.filterwarnings("ignore", "Already found a `peft_config` attribute")
        load(pipeline, source, READ)
    values = folded_state(transformer, READ)
    transformer.set_adapter(ADAPTER)
    transformer.delete_adapters(READ)
    own = state(transformer)
    if others := sorted(own.keys() ^ values.keys()):
        raise AdrpoError(
            f"{source}: expected an adapter of the layers in adapter.target_modules; received one "
            f"{'with' if others[0] in values else 'without'} "
            f"{listed(others, len(own.keys() | values.keys()))}; set them to its own"
        )
    for name, value in values.items():
        if value.shape != own[name].shape:
            ours, theirs = (min(shape) for shape in (own[name].shape, value.shape))
            raise AdrpoError(
                f"{source}: expected an adapter of rank {ours}, which adapter.rank says; received "
                f"one of rank {theirs} in {name}; set adapter.rank={theirs}"
            )
        if scale := _scale(transformer, name, ADAPTER):
            values[name] = value / scale
    load_state(transformer, values)


def check(pipeline: Any, source: Path, *, has_own: bool) -> None:
    """Raise AdrpoError where ``fill`` would, if the pipeline ``has_own`` adapter, or ``load``; the
    pipeline is as it was afterwards."""
    transformer = pipeline.transformer
    if not has_own:
        load(pipeline, source)
        transformer.unload_lora()
        return
    own = {name: value.clone() for name, value in state(transformer).items()}
    try:
        fill(pipeline, source)
    finally:
        load_state(transformer, own)


def _load_pefts(pipeline: Any, folder: Path, name: str) -> None:
    """Add the adapter in a folder of PEFT's."""
    from peft import PeftConfig, load_peft_weights

    transformer = pipeline.transformer
    with naming_the_file(pipeline, folder):
        values = load_peft_weights(str(folder), device="cpu")
        values = {key.removeprefix(PEFT_PREFIX): value for key, value in values.items()}
        _check_values(folder, transformer, values)
        transformer.add_adapter(PeftConfig.from_pretrained(str(folder)), adapter_name=name)
    _take(transformer, folder, values, name)


def _check_values(source: Path, transformer: nn.Module, values: dict[str, Tensor]) -> None:
    if not values:
        raise AdrpoError(f"{source}: expected tensors of a LoRA adapter; received none")
    check_finite(source, values)
    check_fits(source, transformer, values)


def _take(transformer: nn.Module, source: Path, values: dict[str, Tensor], name: str) -> None:
    """Give the adapter that was made for ``values`` their digits: diffusers has rounded them to the
    base's type.

    Raises AdrpoError where it has other tensors than these.
    """
    _in_float32(transformer, name)
    own = state(transformer, name)
    if others := sorted(own.keys() ^ values.keys()):
        raise AdrpoError(
            f"{source}: expected a tensor for each adapted layer, and a layer for each tensor; "
            f"received {listed(others, len(own.keys() | values.keys()))} without the other; "
            f"{ADVICE}"
        )
    load_state(transformer, values, name)


def _in_float32(transformer: nn.Module, name: str = ADAPTER) -> None:
    for parameter in parameters(transformer, name):
        parameter.data = parameter.data.float()


def parameters(transformer: nn.Module, name: str = ADAPTER) -> list[nn.Parameter]:
    """The adapter's parameters in a fixed order, whether it is switched on or off."""
    # Not those that require a gradient: switching the adapter off takes that from them.
    return [value for key, value in transformer.named_parameters() if f".{name}." in f"{key}."]


@contextmanager
def standing_in(own: Sequence[nn.Parameter], values: Sequence[Tensor]) -> Iterator[None]:
    """``values`` stand in for the parameters ``own`` inside, which are as they were afterwards."""
    before = [parameter.data for parameter in own]
    try:
        for parameter, value in zip(own, values, strict=True):
            parameter.data = value
        yield
    finally:
        for parameter, value in zip(own, before, strict=True):
            parameter.data = value


def state(transformer: nn.Module, name: str = ADAPTER) -> dict[str, Tensor]:
    """The adapter's values by PEFT's names."""
    from peft import get_peft_model_state_dict

    return get_peft_model_state_dict(transformer, adapter_name=name)


def folded_state(transformer: nn.Module, name: str = ADAPTER) -> dict[str, Tensor]:
    """The adapter's values by PEFT's names, lora_B multiplied by its layer's alpha / rank."""
    values = state(transformer, name)
    for key in values:
        if scale := _scale(transformer, key, name):
            values[key] = values[key] * scale
    return values


def _scale(transformer: nn.Module, key: str, name: str) -> float | None:
    """The scale of the layer whose lora_B is ``key``; None for another tensor."""
    layer, is_b, _ = key.partition(".lora_B")
    if not is_b:
        return None
    adapted: Any = transformer.get_submodule(layer)
    return adapted.scaling[name]


def load_state(transformer: nn.Module, values: dict[str, Tensor], name: str = ADAPTER) -> None:
    """Put the values that ``state`` gave into the adapter."""
    from peft import set_peft_model_state_dict

    set_peft_model_state_dict(transformer, values, adapter_name=name)


def save(pipeline: Any, folder: Path) -> None:
    """Write the adapter as ``pipeline.load_lora_weights(folder)`` reads it; the same adapter gives
    the same bytes.

    Its strength is in the tensors: lora_B is multiplied by alpha / rank, and alpha in the header is
    the rank, so that a program that reads no header draws the same.
    """
    transformer = pipeline.transformer
    metadata = transformer.peft_config[ADAPTER].to_dict()
    # A set's order differs from process to process, and with it the bytes of the file.
    metadata["target_modules"] = sorted(metadata["target_modules"])
    metadata |= {"lora_alpha": metadata["r"], "alpha_pattern": dict(metadata["rank_pattern"])}
    metadata["use_rslora"] = False
    pipeline.save_lora_weights(
        save_directory=folder,
        transformer_lora_layers=folded_state(transformer),
        transformer_lora_adapter_metadata=metadata,
        weight_name=WEIGHTS_NAME,
    )
    _sort_metadata(folder / WEIGHTS_NAME)


def is_in(transformer: nn.Module, folder: Path) -> bool:
    """True where ``save`` would write the tensors that are in ``folder``."""
    from safetensors.torch import load_file

    if not (folder / WEIGHTS_NAME).is_file():
        return False
    there = load_file(folder / WEIGHTS_NAME)
    own = {f"transformer.{name}": value for name, value in folded_state(transformer).items()}
    return own.keys() == there.keys() and all(own[k].cpu().equal(there[k]) for k in own)


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

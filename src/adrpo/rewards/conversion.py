"""Published checkpoints: pickles become safetensors once, and are read tensor by tensor."""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adrpo.errors import AdrpoError
from adrpo.runs.durable import sync_file, write_durably

PICKLED = (".pt", ".pth", ".bin")
"""Endings of the files that torch.save writes."""

WRAPPERS = ("model", "state_dict")
"""Keys under which training scripts file the state dict beside what else they save."""


def convert_checkpoint(source: str | Path, folder: str | Path) -> Path:
    """The tensors of a pickled checkpoint as ``folder/<stem>.safetensors``.

    Only tensors are unpickled (``weights_only=True``), names and dtypes stay, and tensors that
    share memory are stored one by one. Beside it ``<stem>.json`` records the source's name and
    its sha256, the sha256 of the written file, and the number of tensors. Where that record
    names the source's present content, the file is kept: the source is converted once.

    Args:
        source: what torch.save wrote: a state dict, or a dict with one under "model" or
            "state_dict".
        folder: made if it is not there.

    Returns:
        The path of the safetensors file.

    Raises:
        AdrpoError: no such file, not a checkpoint of tensors only, or a file of that name that
            this function did not write.
    """
    source, folder = Path(source), Path(folder)
    if not source.is_file():
        raise AdrpoError(f"expected a pickled checkpoint at {str(source)!r}, found no file there")
    target = folder / f"{source.stem}.safetensors"
    record = target.with_suffix(".json")
    digest = _sha256(source)
    if target.is_file():
        if not record.is_file():
            raise AdrpoError(
                f"expected to write the conversion of {str(source)!r} to {str(target)!r}, found "
                f"a file there without a record {record.name!r}: name that file as the weights, "
                "or move it away"
            )
        if json.loads(record.read_text(encoding="utf-8"))["sha256"] == digest:
            return target
    tensors = _unshared(_state_dict(source))
    folder.mkdir(parents=True, exist_ok=True)
    _write_safetensors(tensors, target, record, like=source)
    described = {
        "source": source.name,
        "sha256": digest,
        "safetensors_sha256": _sha256(target),
        "tensors": len(tensors),
    }
    write_durably(record, (json.dumps(described, indent=2) + "\n").encode())
    return target


def read_checkpoint(
    weights: str | Path, *, published: str, skip: Callable[[str], bool] = lambda name: False
) -> dict[str, Tensor]:
    """Tensors by name, on the CPU; those of a floating type in float32.

    Args:
        weights: a .safetensors file, or a .pt, .pth or .bin file, which is converted once into
            its own folder and read from there.
        published: what is expected, and where it is published; for the error message.
        skip: which names are left unread.

    Raises:
        AdrpoError: no such file, another ending, or a damaged file.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(weights).expanduser()
    if not file.is_file():
        raise AdrpoError(
            f"expected {published}, received {str(weights)!r}: there is no such file; download "
            "it, and name its path in 'weights'"
        )
    if file.suffix in PICKLED:
        file = convert_checkpoint(file, file.parent)
    elif file.suffix != ".safetensors":
        raise AdrpoError(
            f"expected {published} as .safetensors, {', '.join(PICKLED[:-1])} or {PICKLED[-1]}, "
            f"received {str(weights)!r}"
        )
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys() if not skip(name)}
    except SafetensorError as error:
        raise AdrpoError(
            f"the weights {str(file)!r} can't be read ({_one_line(error)}): download them again"
        ) from error
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }


def load_exactly(
    module: torch.nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    published_name: Callable[[str], str],
    source: str,
) -> None:
    """Copy ``tensors`` into ``module``, each into one parameter and none left over.

    Args:
        module: its parameters and persistent buffers are overwritten.
        tensors: by their published names.
        published_name: from a name of the module's to the published one.
        source: the file, for the error message.

    Raises:
        AdrpoError: a tensor is missing, left over, or of another shape.
    """
    own = {name: published_name(name) for name in module.state_dict()}
    if missing := own.values() - tensors.keys():
        raise AdrpoError(
            f"expected complete weights in {source!r}, but they lack {len(missing)} tensors, "
            f"{min(missing)!r} among them: name the published file"
        )
    if unexpected := tensors.keys() - own.values():
        raise AdrpoError(
            f"expected the published model in {source!r}, but it holds {len(unexpected)} tensors "
            f"of another one, {min(unexpected)!r} among them: name the published file"
        )
    for name, parameter in module.state_dict().items():
        if parameter.shape != tensors[own[name]].shape:
            raise AdrpoError(
                f"expected {own[name]!r} of shape {list(parameter.shape)} in {source!r}, received "
                f"{list(tensors[own[name]].shape)}: name the published file"
            )
    module.load_state_dict({name: tensors[published] for name, published in own.items()})


def _state_dict(source: Path) -> dict[str, Tensor]:
    try:
        loaded: Any = torch.load(source, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise AdrpoError(
            f"expected a checkpoint that holds tensors only in {str(source)!r}; it can't be read "
            f"without running its code, or is damaged ({_one_line(error)}): download it again, "
            "or name another file"
        ) from error
    for key in WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not loaded:
        raise AdrpoError(
            f"expected a state dict in {str(source)!r}, received {type(loaded).__name__}"
        )
    for name, value in loaded.items():
        if not isinstance(value, Tensor):
            raise AdrpoError(
                f"expected a state dict in {str(source)!r}, tensors by name; received "
                f"{type(value).__name__} under {name!r}"
            )
    return loaded


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """safetensors stores no two tensors of one memory (tied weights): the later ones are copied."""
    result: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        result[name] = tensor.detach().contiguous()
        if memory in seen:
            result[name] = result[name].clone()
        seen.add(memory)
    return result


def _write_safetensors(
    tensors: dict[str, Tensor], target: Path, record: Path, *, like: Path
) -> None:
    from safetensors.torch import save_file

    temporary = target.with_name(f".{target.name}.partial")
    save_file(tensors, temporary, metadata={"format": "pt"})
    # safetensors writes for the owner alone; who may read the source may read this.
    shutil.copymode(like, temporary)
    sync_file(temporary)
    # A record stands only beside the file it describes: a kill in between converts again.
    record.write_text(json.dumps({"sha256": None}), encoding="utf-8")
    os.replace(temporary, target)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

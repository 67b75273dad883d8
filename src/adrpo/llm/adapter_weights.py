"""Weights from a folder into a language model, an adapter's or its own: all of them or none."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import (
    PeftConfig,
    PeftModel,
    get_peft_model_state_dict,
    load_peft_weights,
    set_peft_model_state_dict,
)
from torch import Tensor

from adrpo.errors import AdrpoError, reading
from adrpo.runs.model_folder import ADAPTER_CONFIG, check_finite, first_names
from adrpo.runs.seeding import preserved_generators

KEYS = {"lora_alpha": "alpha", "r": "rank"}
"""PEFT's names of an adapter's numbers -> the keys of the section ``adapter``."""

FORM = ("use_rslora", "use_dora", "lora_bias", "alpha_pattern", "rank_pattern")
"""PEFT's settings that change what an adapter's weights mean, and that no key sets."""

REFERENCE = "ref"
"""TRL's name of an adapter that is the reference of the one that is trained."""


def check_adapter_folder(path: Path) -> None:
    """Raise AdrpoError where ``path`` is a file: its scale would be unknown."""
    if not path.is_dir():
        raise AdrpoError(
            f"{path}: expected the folder that PEFT saved, in which {ADAPTER_CONFIG} has the scale "
            f"of the weights; received {'a file' if path.exists() else 'nothing that is there'}; "
            f"name the folder"
        )


def take_weights(trainer: Any, folder: Path) -> None:
    """Give the model of ``trainer`` the weights in ``folder``, which is a run's ``final/``, a
    checkpoint, or the folder of an adapter that PEFT loads over the configuration's model.

    Raises AdrpoError where they are not those of the configuration's model.
    """
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    with _named_weights(folder):
        if isinstance(model, PeftModel):
            take_adapter(model, folder)
        elif not folder.is_dir() or (folder / ADAPTER_CONFIG).is_file():
            trainer.model = add_adapter(model, folder).eval()
        else:
            model.load_state_dict(read_model(model, folder))


def check_weights(trainer: Any, folder: Path) -> None:
    """Raise AdrpoError where ``take_weights`` would; the model is as it was afterwards."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    with _named_weights(folder), preserved_generators():
        if isinstance(model, PeftModel):
            check_adapter(model, folder)
        elif not folder.is_dir() or (folder / ADAPTER_CONFIG).is_file():
            add_adapter(model, folder).unload()
        else:
            read_model(model, folder)


@contextmanager
def _named_weights(folder: Path) -> Iterator[None]:
    """Say, of an error of a library inside, that it is about the weights in ``folder``."""
    with reading(
        f"{folder}: expected the weights that this run's training left, or an adapter of its "
        f"model; received others or none",
        "name another folder",
    ):
        yield


def take_adapter(model: PeftModel, folder: Path) -> None:
    """Give the adapter of ``model`` the weights in ``folder``.

    PEFT itself leaves out the layers that one of them lacks, and knows the scale of the model's
    alone.

    Raises:
        AdrpoError: an adapter of other layers or another scale, or numbers that are not finite.
        OSError, RuntimeError, ValueError: no weights, or of another rank.
    """
    check_adapter_folder(folder)
    weights = load_peft_weights(str(folder), device="cpu")
    check_finite(folder, weights)
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    if others := sorted(weights.keys() ^ own.keys()):
        raise AdrpoError(
            f"{folder}: expected an adapter of the layers in adapter.target_modules, received one "
            f"{'with' if others[0] in weights else 'without'} {_listed(others)}; set them to its "
            f"own"
        )
    if (folder / ADAPTER_CONFIG).is_file():
        theirs: Any = PeftConfig.from_pretrained(str(folder))
        _check_form(folder, theirs, model.active_peft_config)
    set_peft_model_state_dict(model, weights)


def check_adapter(model: PeftModel, folder: Path) -> None:
    """Raise as ``take_adapter`` would; the adapter of ``model`` is as it was afterwards."""
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    own = {name: value.clone() for name, value in own.items()}
    try:
        take_adapter(model, folder)
    finally:
        set_peft_model_state_dict(model, own)


def begin_with(model: PeftModel, start: Path, *, is_reference: bool) -> None:
    """Give the new adapter of ``model`` the weights in ``start``, and keep a copy of them where it
    is the reference.

    Raises AdrpoError where they are not an adapter of its form.
    """
    with reading(
        f"adapter.start_from: expected an adapter of this model, which PEFT saved; received "
        f"{start}",
        "name another folder",
    ):
        take_adapter(model, start)
    if is_reference:
        keep_reference(model)


def keep_reference(model: PeftModel) -> None:
    """Add a frozen copy of the adapter of ``model``, under the name of TRL's reference."""
    named: Any = model
    model.add_adapter(REFERENCE, model.peft_config["default"])
    for name, value in model.named_parameters():
        if ".default." in name:
            copy = named.get_parameter(name.replace(".default.", f".{REFERENCE}."))
            copy.data.copy_(value.data)
            copy.requires_grad_(False)


def same_adapter(source: Path, kept: Path) -> bool:
    """True where the adapter in the folder ``source`` has the weights of the one in ``kept``, as
    far as the type of these can tell."""
    if not kept.is_dir():  # PEFT would look for it on the Hub
        return False
    ours, theirs = (load_peft_weights(str(folder), device="cpu") for folder in (source, kept))
    return ours.keys() == theirs.keys() and all(
        ours[name].to(value.dtype).equal(value) for name, value in theirs.items()
    )


def _check_form(folder: Path, theirs: Any, ours: Any) -> None:
    for name in (*KEYS, *FORM):
        expected, received = getattr(ours, name, None), getattr(theirs, name, None)
        if (expected or None) == (received or None):
            continue
        if name in KEYS:
            key = KEYS[name]
            raise AdrpoError(
                f"{folder}: expected an adapter of {key} {expected:g}, which adapter.{key} "
                f"says, received {received:g}; set adapter.{key}={received:g}"
            )
        raise AdrpoError(
            f"{folder}: expected an adapter with {name}={expected}, received {received}, for "
            f"which the section adapter has no key; set adapter=null, and it is loaded as it is"
        )


def add_adapter(model: Any, folder: Path) -> PeftModel:
    """``model`` with the adapter in ``folder``, made as PEFT's configuration there says.

    Raises:
        AdrpoError: a tensor of it that fits no layer, or a layer without its tensors: PEFT leaves
            the one out and draws the other.
        OSError, RuntimeError, ValueError: no adapter of this model.
    """
    check_adapter_folder(folder)
    weights = load_peft_weights(str(folder), device="cpu")
    check_finite(folder, weights)
    with warnings.catch_warnings():
        # Of what is missing the error below tells.
        warnings.filterwarnings("ignore", "Found missing adapter keys")
        adapted = PeftModel.from_pretrained(model, str(folder))
    own = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    # Embeddings that were saved beside an adapter have the model's own names.
    unfit = sorted(weights.keys() - own.keys() - adapted.state_dict().keys())
    if others := unfit or sorted(own.keys() - weights.keys()):
        raise AdrpoError(
            f"{folder}: expected an adapter whose tensors all fit a layer of "
            f"{type(model).__name__}, and none missing; received one "
            f"{'with' if unfit else 'without'} {_listed(others)}; name an adapter of this model"
        )
    return adapted


def read_model(model: Any, folder: Path) -> dict[str, Tensor]:
    """Read all weights of ``model`` from ``folder``, in its type.

    Raises:
        AdrpoError: some of them are missing, and transformers would have drawn them.
        OSError, RuntimeError, ValueError: none, or of another model.
    """
    trained, found = type(model).from_pretrained(
        folder, dtype=model.dtype, output_loading_info=True
    )
    weights = trained.state_dict()
    check_finite(folder, weights)
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if names := sorted(map(str, found[what])):
            raise AdrpoError(
                f"{folder}: expected the whole of a {type(model).__name__}; received "
                f"{len(names)} {what.replace('_', ' ')}, such as {names[0]}; name a folder with "
                f"all weights of this model"
            )
    return weights


def _listed(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    return f"{len(names)} others: {first_names(names)}"

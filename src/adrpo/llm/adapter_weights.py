"""An adapter's weights from a folder of PEFT's into a model, all of them or none."""

import warnings
from pathlib import Path
from typing import Any

from peft import (
    PeftConfig,
    PeftModel,
    get_peft_model_state_dict,
    load_peft_weights,
    set_peft_model_state_dict,
)

from adrpo.errors import AdrpoError

CONFIG = "adapter_config.json"
"""File that PEFT writes beside an adapter's weights."""

KEYS = {"lora_alpha": "alpha", "r": "rank"}
"""PEFT's names of an adapter's numbers -> the keys of the section ``adapter``."""

FORM = ("use_rslora", "use_dora", "lora_bias", "alpha_pattern", "rank_pattern")
"""PEFT's settings that change what an adapter's weights mean, and that no key sets."""

SHOWN = 3
"""Tensors that an error names; it counts all of them."""


def check_adapter_folder(path: Path) -> None:
    """Raise AdrpoError where ``path`` is a file: its scale would be unknown."""
    if not path.is_dir():
        raise AdrpoError(
            f"{path}: expected the folder that PEFT saved, in which {CONFIG} has the scale of the "
            f"weights; received {'a file' if path.exists() else 'nothing that is there'}; name "
            f"the folder"
        )


def take_adapter(model: PeftModel, folder: Path) -> None:
    """Give the adapter of ``model`` the weights in ``folder``.

    PEFT itself leaves out the layers that one of them lacks, and knows the scale of the model's
    alone.

    Raises:
        AdrpoError: an adapter of other layers or another scale.
        OSError, RuntimeError, ValueError: no weights, or of another rank.
    """
    check_adapter_folder(folder)
    weights = load_peft_weights(str(folder), device="cpu")
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    if others := sorted(weights.keys() ^ own.keys()):
        raise AdrpoError(
            f"{folder}: expected an adapter of the layers in adapter.target_modules, received one "
            f"{'with' if others[0] in weights else 'without'} {_listed(others)}; set them to its "
            f"own"
        )
    if (folder / CONFIG).is_file():
        theirs: Any = PeftConfig.from_pretrained(str(folder))
        _check_form(folder, theirs, model.active_peft_config)
    set_peft_model_state_dict(model, weights)


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


def _listed(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    more = ", ..." if len(names) > SHOWN else ""
    return f"{len(names)} others: {', '.join(names[:SHOWN])}{more}"

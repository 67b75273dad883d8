"""An adapter's weights from a folder into a model that has an adapter of the same form."""

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


def take_adapter(model: PeftModel, folder: Path) -> None:
    """Give the adapter of ``model`` the weights in ``folder``.

    PEFT itself leaves out the layers that one of them lacks, and knows the scale of the model's
    alone.

    Raises:
        AdrpoError: an adapter of other layers or another scale.
        OSError, RuntimeError, ValueError: no weights, or of another rank.
    """
    weights = load_peft_weights(str(folder))
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    if others := sorted(weights.keys() ^ own.keys()):
        raise AdrpoError(
            f"{folder}: expected an adapter of the layers in adapter.target_modules, received one "
            f"{'with' if others[0] in weights else 'without'} {others[0]}; set them to its own"
        )
    if (folder / "adapter_config.json").is_file():
        theirs: Any = PeftConfig.from_pretrained(str(folder))
        ours: Any = model.active_peft_config
        for key, name in (("lora_alpha", "alpha"), ("r", "rank")):
            expected, received = getattr(ours, key), getattr(theirs, key)
            if expected != received:
                raise AdrpoError(
                    f"{folder}: expected an adapter of {name} {expected:g}, which adapter.{name} "
                    f"says, received {received:g}; set adapter.{name}={received:g}"
                )
    set_peft_model_state_dict(model, weights)

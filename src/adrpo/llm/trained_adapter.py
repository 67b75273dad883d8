"""A check that training would move a model, which may be PEFT's."""

from typing import Any

from peft import PeftModel

from adrpo.runs.trainable import check_trains


def check_model_trains(model: Any) -> None:
    """Raise AdrpoError where no parameter of ``model`` that takes part in its predictions requires
    a gradient, as with PEFT's default for an adapter that is loaded."""
    idle: set[str] = set()
    way = "call requires_grad_ on what is to be trained"
    if isinstance(model, PeftModel):
        # TRL's copy of an adapter, which is its reference, and what else is switched off.
        idle = {f".{name}." for name in model.peft_config.keys() - {*model.active_adapters}}
        way = (
            "load its adapter by PeftModel.from_pretrained(..., is_trainable=True), or pass the "
            "base model with a peft_config"
        )
    named = model.named_parameters()
    parameters = [value for name, value in named if not any(part in name for part in idle)]
    check_trains(parameters, f"a {type(model).__name__}", way)

"""Bytes that a trainer keeps between its steps, counted tensor by tensor."""

from typing import Any, NamedTuple


class ResidentBytes(NamedTuple):
    """``weights`` of the model, adapter included; ``reference``, where it is a model of its own;
    ``gradient`` of what is trained, and AdamW's ``moments``."""

    weights: int
    reference: int
    gradient: int
    moments: int


def resident_bytes(trainer: Any) -> ResidentBytes:
    """Count after a step: AdamW makes its moments in the first."""
    weights = [*trainer.model.parameters()]
    reference = trainer.ref_model.parameters() if trainer.ref_model else ()
    return ResidentBytes(
        weights=sum(p.nbytes for p in weights),
        reference=sum(p.nbytes for p in reference),
        gradient=sum(p.nbytes for p in weights if p.requires_grad),
        moments=sum(
            state[name].nbytes
            for state in trainer.optimizer.state.values()
            for name in ("exp_avg", "exp_avg_sq")
        ),
    )

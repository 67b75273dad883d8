"""A model that training would not move."""

from collections.abc import Iterable
from typing import Any

from adrpo.errors import AdrpoError


def check_trains(parameters: Iterable[Any], model: str, way: str) -> None:
    """Raise AdrpoError where none of ``parameters`` requires a gradient: steps would be made and
    logged, and nothing learned.

    Args:
        parameters: those that a step may move.
        model: what they are of, for the error.
        way: what to do.
    """
    count = trained = 0
    for parameter in parameters:
        count += 1
        trained += parameter.requires_grad
    if not trained:
        raise AdrpoError(
            f"model: expected parameters that require a gradient; received {model}, of whose "
            f"{count} none does, so that nothing would be trained; {way}"
        )

"""Language models, on TRL. Importing this loads neither trl nor transformers."""

import importlib
from typing import TYPE_CHECKING, Any

from adrpo.errors import AdrpoError

if TYPE_CHECKING:
    from adrpo.llm.config import ADRPOConfig
    from adrpo.llm.run import LanguageRun
    from adrpo.llm.trainer import ADRPOTrainer

__all__ = ["ADRPOConfig", "ADRPOTrainer", "LanguageRun"]

_HOMES = {
    "ADRPOConfig": "adrpo.llm.config",
    "ADRPOTrainer": "adrpo.llm.trainer",
    "LanguageRun": "adrpo.llm.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import trl  # noqa: F401
    except ModuleNotFoundError as error:
        raise AdrpoError(
            f"adrpo.llm.{name} needs trl and datasets ({error}): "
            "pip install '.[llm]' in the folder of adrpo"
        ) from error
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return __all__

"""Audio-language models: their trainer, on TRL, and the benchmarks that they are measured on.

Importing this loads neither trl nor transformers.
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from adrpo.errors import AdrpoError

if TYPE_CHECKING:
    from adrpo.audio.processor import AudioProcessor
    from adrpo.audio.run import AudioRun
    from adrpo.audio.trainer import AudioADRPOTrainer

__all__ = ["AudioADRPOTrainer", "AudioProcessor", "AudioRun"]

_HOMES = {
    "AudioADRPOTrainer": "adrpo.audio.trainer",
    "AudioProcessor": "adrpo.audio.processor",
    "AudioRun": "adrpo.audio.run",
}
NEEDS = ("datasets>=4.7", "soundfile>=0.13", "soxr>=1.0", "transformers>=5.21", "trl>=1.16,<1.17")
"""Requirements of the extra ``audio``: TRL scores by a head that reads the hidden states of the
Thinker, which has given them since transformers 5.21; TRL 1.15 needs Triton, and so a GPU."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    lacking = [text for text in map(_lack, NEEDS) if text]
    if lacking:
        raise AdrpoError(
            f"adrpo.audio.{name}: expected {', '.join(lacking)}: "
            "pip install '.[audio]' in the folder of adrpo"
        )
    return getattr(importlib.import_module(_HOMES[name]), name)


def _lack(text: str) -> str:
    """Requirement with what is installed instead; empty where it is met."""
    requirement = Requirement(text)
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{text} (not installed)"
    met = requirement.specifier.contains(version, prereleases=True)
    return "" if met else f"{text} (installed: {version})"


def __dir__() -> list[str]:
    """The public names."""
    return __all__

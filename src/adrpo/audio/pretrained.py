"""The Thinker of Qwen2.5-Omni: its weights, and the modules of its language model."""

import re
from collections.abc import Sequence
from typing import Any

from transformers import AutoConfig, Qwen2_5OmniThinkerForConditionalGeneration

from adrpo.errors import AdrpoError
from adrpo.llm.pretrained import HEARING
from adrpo.runs.model_folder import NO_CODE


def load_thinker(name: str, **options: Any) -> Any:
    """The Thinker in a folder or on the Hub, also where the whole of Qwen2.5-Omni lies.

    Args:
        name: a folder or a Hub id.
        options: of ``from_pretrained``, such as ``dtype``.

    Raises:
        AdrpoError: a model that does not hear.
        OSError: no such model.
    """
    check_hears(name)
    return Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(name, **options)


def check_hears(name: str) -> Any:
    """The configuration of the model in a folder or on the Hub, looked at; errors as of
    :func:`load_thinker`."""
    found = AutoConfig.from_pretrained(name, **NO_CODE)
    received = found.model_type
    if received not in HEARING:
        raise AdrpoError(
            f"model: expected a Thinker of Qwen2.5-Omni, received {name!r}, a model of type "
            f"{received!r}; for text alone use ADRPOTrainer (a recipe of the domain llm)"
        )
    return found


def language_modules(names: Sequence[str]) -> str:
    """Regular expression of the modules of the language model whose name ends in one of ``names``.

    The layers of the encoder have modules of the same names.
    """
    endings = "|".join(re.escape(name) for name in names)
    return rf".*\.language_model\.layers\.\d+\.(?:.*\.)?(?:{endings})"

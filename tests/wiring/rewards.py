"""Rewards that remember what they are given."""

from typing import Any

import numpy as np
from PIL import Image

CALLS: list[tuple[list[str], list[Image.Image], float]] = []
"""Prompts, images and the option ``unit`` of every call since it was last emptied."""


def ink(
    prompts: list[str], images: list[Image.Image], unit: float = 6.0, **_: Any
) -> list[float | None]:
    """How dark a picture is, in ``unit`` grey levels, and how long its prompt."""
    CALLS.append((prompts, images, unit))
    return [
        (255 - float(np.asarray(image).mean())) / unit + len(prompt) / 10
        for prompt, image in zip(prompts, images, strict=True)
    ]


PLAN: list[float] = []
"""What :func:`planned` gives, call after call."""


def planned(prompts: list[Any], **_: Any) -> list[float | None]:
    """The next number of the plan, for every sample."""
    value = PLAN.pop(0)
    return [value] * len(prompts)


SAID: list[tuple[list[Any], list[Any], dict[str, Any]]] = []
"""Prompts, completions and columns of every call of :func:`letters` since it was last emptied."""


def letters(
    prompts: list[Any], completions: list[Any], unit: float = 1.0, **columns: Any
) -> list[float | None]:
    """A number of a completion's letters, in ``unit``; all completions of every second prompt have
    the same."""
    SAID.append((prompts, completions, columns))
    return [
        0.0 if number(prompt) % 2 else (number(completion) % 7) / unit
        for prompt, completion in zip(prompts, completions, strict=True)
    ]


def words(turns: str | list[dict[str, Any]]) -> str:
    """The text, or that of a conversation's last turn."""
    text: Any = turns if isinstance(turns, str) else turns[-1]["content"]
    return text if isinstance(text, str) else text[-1]["text"]


def number(turns: str | list[dict[str, Any]]) -> int:
    """The sum of the code points of its words."""
    return sum(map(ord, words(turns)))


def lengths(
    prompts: list[Any], completions: list[Any], unit: float = 1.0, **_: Any
) -> list[float | None]:
    """Letters of a completion, in ``unit``."""
    return [len(words(turns)) / unit for turns in completions]

"""Prompts by their content, whatever their file is called: digests, and prompts in common."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from adrpo.data.base import Prompt, same_prompt


def digest(prompt: Prompt) -> str:
    """Sixteen hexadecimal digits of the sha256 of all that models and rewards see of a prompt: its
    content, category and columns."""
    seen = [prompt.content, prompt.category, dict(prompt.columns)]
    text = json.dumps(seen, sort_keys=True, default=_in_json)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def in_common(
    train: Sequence[Prompt],
    held_out: Sequence[Prompt],
    key: Callable[[Prompt], str] = lambda prompt: same_prompt(prompt.content),
) -> list[Prompt]:
    """The prompts of ``held_out`` that are among ``train``, too; by default they are the same where
    they differ in case, spaces and columns only."""
    known = {key(prompt) for prompt in train}
    return [prompt for prompt in held_out if key(prompt) in known]


def _in_json(value: Any) -> Any:
    """What stands for a value that JSON has not: its content, or at least its text."""
    if hasattr(value, "tobytes"):  # an array or a picture
        value = value.tobytes()
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if type(value).__str__ is object.__str__ and type(value).__repr__ is object.__repr__:
        return type(value).__qualname__  # the text would name a place in memory
    return str(value)

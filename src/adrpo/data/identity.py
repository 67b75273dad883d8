"""Prompts by their content, whatever their file is called: digests, and prompts in common."""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from adrpo.data.base import Prompt, same_prompt


def digest(prompt: Prompt) -> str:
    """Sixteen hexadecimal digits of the sha256 of all that models and rewards see of a prompt: its
    content, category and columns."""
    seen = [prompt.content, prompt.category, dict(prompt.columns)]
    text = json.dumps(seen, sort_keys=True, default=_in_json)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


Key = Callable[[Prompt], str]
"""A text that two prompts share where they are the same to a model."""


def by_words(prompt: Prompt) -> str:
    """The :data:`Key` of what is read: prompts are the same where they differ in case, spaces and
    columns only."""
    return same_prompt(prompt.content)


def in_common(
    train: Sequence[Prompt], held_out: Sequence[Prompt], key: Key = by_words
) -> list[Prompt]:
    """The prompts of ``held_out`` that are among ``train``, too."""
    known = {key(prompt) for prompt in train}
    return [prompt for prompt in held_out if key(prompt) in known]


def shared_prompts(
    train: Sequence[Prompt], held_out: Sequence[Prompt], key: Key = by_words
) -> str | None:
    """The fault of held-out prompts that are trained on, too, with their number and the first of
    them; None without any."""
    found = in_common(train, held_out, key)
    if not found:
        return None
    return (
        f"prompts.held_out: {len(found)} of {len(held_out)} held-out prompts are trained on, too, "
        f"the first of them: {' '.join(found[0].text.split())[:60]!r}"
    )


@cache
def file_sha256(path: str, size: int, changed: int) -> str:
    """The sha256 of a file's content; it is read again where its size or its time of change is
    new. OSError where there is no such file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _in_json(value: Any) -> Any:
    """A stand-in for a value that JSON has not: its content, or at least its text."""
    if hasattr(value, "tobytes"):  # an array or a picture
        value = value.tobytes()
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if type(value).__str__ is object.__str__ and type(value).__repr__ is object.__repr__:
        return type(value).__qualname__  # the text would name a place in memory
    return str(value)

"""Prompts against the context of the model."""

from collections.abc import Sequence
from typing import Any

from adrpo.data.base import text_of
from adrpo.errors import AdrpoError


def bytes_of(prompt: Any) -> int:
    """UTF-8 bytes of a prompt: a text, or messages with a text as content."""
    texts = [prompt] if isinstance(prompt, str) else [str(turn["content"]) for turn in prompt]
    return sum(len(text.encode()) for text in texts)


def check_context(
    prompt_ids: Sequence[Sequence[int]], prompts: Sequence[Any], context: int
) -> None:
    """Every prompt leaves room for at least one token of the completion.

    Raises:
        AdrpoError: one does not; the message shows where it begins.
    """
    for ids, prompt in zip(prompt_ids, prompts, strict=True):
        if len(ids) >= context:
            start = text_of(prompt)[:60]
            raise AdrpoError(
                f"prompts: expected fewer tokens than the model's context of {context}, received "
                f"{len(ids)} for the prompt that begins {start!r}; shorten it or filter it out"
            )

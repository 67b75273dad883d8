"""Columns of a prompt's row that a text-to-image model reads, beside those that rewards read."""

from collections.abc import Iterable

from adrpo.data.base import Prompt
from adrpo.errors import AdrpoError

NEGATIVE = "negative_prompt"
"""Column of the negative prompt, under the name that it has in the calls of diffusers."""


def negative_prompt_of(prompt: Prompt) -> str | None:
    """The negative prompt of a row, without the spaces around it; None where it has none, and that
    of the run holds, if any."""
    value = prompt.columns.get(NEGATIVE)
    return (value.strip() or None) if isinstance(value, str) else None


def check_columns(source: str, prompts: Iterable[Prompt]) -> None:
    """Raise AdrpoError for the first of ``prompts`` of ``source`` with a column that a model can't
    read: a negative prompt that is no text."""
    for prompt in prompts:
        value = prompt.columns.get(NEGATIVE)
        if value is not None and not isinstance(value, str):
            raise AdrpoError(
                f"{source}: expected a text in the column {NEGATIVE}, the negative prompt of "
                f"guidance, received {value!r:.60} beside the prompt {prompt.text[:60]!r}; mend "
                f"it, or rename the column if it is something else"
            )

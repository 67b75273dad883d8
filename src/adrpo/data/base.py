"""Prompts as every source gives them, in every domain: a prompt with the columns beside it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adrpo.errors import AdrpoError

Content = str | list[dict[str, Any]]
"""A prompt as a model takes it: a text, or a conversation of messages {"role", "content"}."""

Row = dict[str, Any]
"""The fields of one prompt in its source, by the names of their columns."""

TAKEN = frozenset(
    {
        "prompts", "images", "completions",
        "completion_ids", "trainer_state", "log_extra", "log_metric", "environments",  # by TRL
    }
)  # fmt: skip
"""Names that a column can't have: keywords that rewards are called with beside the columns."""


@dataclass(frozen=True)
class Prompt:
    """One prompt, and what its source says beside it.

    ``category`` groups the metrics; it is empty where the source names none. ``columns`` are the
    further fields of the prompt's row, which rewards are given. Prompts are equal where all three
    are: one text beside two answers is two prompts.
    """

    content: Content
    category: str = ""
    columns: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def text(self) -> str:
        """The prompt in words: a text itself, the last message of a conversation."""
        return text_of(self.content)


def text_of(content: Content) -> str:
    """The words of a prompt: a text itself, the last message of a conversation."""
    return content if isinstance(content, str) else str(content[-1]["content"])


def columns_of(prompts: Sequence[Prompt]) -> dict[str, list[Any]]:
    """The keywords that rewards are called with beside the samples, one item per prompt each.

    "prompts" holds the contents, "category" the categories (a text, empty where there is none),
    and every further column that any of ``prompts`` has holds its values, None where one lacks it.
    Where a prompt has several samples, ``prompts`` names it once for each of them.
    """
    names = dict.fromkeys(name for prompt in prompts for name in prompt.columns)
    return {
        "prompts": [prompt.content for prompt in prompts],
        "category": [prompt.category for prompt in prompts],
        **{name: [prompt.columns.get(name) for prompt in prompts] for name in names},
    }


def prompts_of(rows: Iterable[tuple[str, Row]]) -> list[Prompt]:
    """The prompts of a source, all with the same columns: None where a row lacks one.

    A category that is a number is taken as it is written; spaces around a category are not.

    Args:
        rows: (where it stands, the row) for each prompt, which is the row's "prompt".

    Raises:
        AdrpoError: a column with a name of TAKEN, or a category that is neither a text nor a
            number.
    """
    rows = list(rows)
    for where, row in rows:
        taken = sorted(row.keys() & TAKEN)
        if taken:
            raise AdrpoError(
                f"{where}: expected another name for the column {taken[0]!r}, since rewards are "
                f"given something else by that name; rename it"
            )
    names = dict.fromkeys(name for _, row in rows for name in row)
    further = [name for name in names if name not in ("prompt", "category")]
    return [
        Prompt(row["prompt"], _category(row, where), {name: row.get(name) for name in further})
        for where, row in rows
    ]


def _category(row: Row, where: str) -> str:
    value = row.get("category")
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise AdrpoError(
            f"{where}: expected a category that is a text or a number, received {value!r:.60}"
        )
    return str(value).strip()


def same_prompt(content: Content) -> str:
    """A key that contents share where they differ in case and spaces only.

    What is held out is held out by this key, whatever columns stand beside it.
    """
    messages = [{"role": "", "content": content}] if isinstance(content, str) else content
    return json.dumps([[m["role"], normalized(m["content"])] for m in messages])


def normalized(text: str) -> str:
    """``text`` in lower case, with single spaces between its words."""
    return " ".join(text.casefold().split())

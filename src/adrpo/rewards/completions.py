"""The content of a completion: its text, the answer in it, and the columns it is compared with."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from adrpo.errors import AdrpoError

Completion = str | Sequence[Mapping[str, Any]]
"""TRL's two forms: a text, or messages {"role", "content"}."""

KEPT_SYMBOLS = frozenset("+%#<>=^°")
"""Characters besides letters and digits that tell answers apart: C and C++, 5 and 5 %."""


def completion_text(completion: Completion) -> str:
    """The text of a completion: of a conversation the last assistant message, "" without one.

    Raises:
        AdrpoError: neither a text nor a list of messages.
    """
    if isinstance(completion, str):
        return completion
    if not isinstance(completion, Sequence) or not all(isinstance(m, Mapping) for m in completion):
        raise AdrpoError(
            "expected a completion as text or as a list of messages {'role', 'content'}, "
            f"received {completion!r:.60}"
        )
    said = [m.get("content") for m in completion if m.get("role") == "assistant"]
    content = said[-1] if said else None
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part["text"] for part in content if part.get("type") == "text")


def after_thought(text: str) -> str:
    """The text behind the last ``</think>``; "" where a thought was opened and never closed."""
    said = text.rpartition("</think>")[2]
    return "" if "<think>" in said else said


def tagged(text: str, tag: str) -> str | None:
    """The content of the last closed ``<tag>...</tag>`` behind the thought, or None.

    The innermost pair counts: of "<answer> or <answer>B</answer>" it is "B".
    """
    opening, closing = f"<{tag}>", f"</{tag}>"
    before, found, _ = after_thought(text).rpartition(closing)
    if not found:
        return None
    _, found, content = before.rpartition(opening)
    # The tag that closes last may close nothing: "<answer>A</answer> </answer>".
    return content.strip() if found and closing not in content else None


def normal_form(text: str) -> str:
    """Letters and digits in lower case; two texts of one form say the same.

    Spaces and punctuation go, and so do quotation marks, brackets and emphasis. What changes a
    value stays: the sign before a number, the point, comma, colon, slash or hyphen between two
    digits, a gap between two digits (as one space), and KEPT_SYMBOLS. Hence 1.5, 15, -15 and
    "1 5" differ, and so do C and C++.
    """
    text = unicodedata.normalize("NFC", text).replace("−", "-").casefold()
    form = ""
    gap = False
    for index, character in enumerate(text):
        if _means_something(text, index):
            form += " " if gap and form[-1:].isdigit() and character.isdigit() else ""
            form, gap = form + character, False
        else:
            gap = True
    return form


def _means_something(text: str, index: int) -> bool:
    character = text[index]
    # Vowel signs of many scripts are marks (M), not letters.
    if (
        character.isalnum()
        or character in KEPT_SYMBOLS
        or unicodedata.category(character)[0] == "M"
    ):
        return True
    before, after = text[index - 1 : index], text[index + 1 : index + 2]
    if character == "-":
        return after.isdigit() and not before.isalpha()
    if character == "." and not before.isalnum():
        return after.isdigit()
    return character in ".,:/" and before.isdigit() and after.isdigit()


def column(columns: Mapping[str, Any], name: str, count: int, *, reward: str, option: str) -> Any:
    """The column ``name``, one value for each of ``count`` completions.

    Args:
        columns: all that the caller passed beside prompts and completions.
        name: of the column.
        count: of completions.
        reward: the reward's short name, for the message.
        option: the reward's option that names the column, for the message.

    Raises:
        AdrpoError: no such column, or one of another length.
    """
    if name not in columns:
        known = ", ".join(sorted(columns)) or "none"
        raise AdrpoError(
            f"{reward}: expected a column {name!r} in the data, received the columns {known}; "
            f"add it, or name another in the option {option!r}"
        )
    values = columns[name]
    if len(values) != count:
        raise AdrpoError(
            f"{reward}: expected {count} values in the column {name!r}, one per completion, "
            f"received {len(values)}"
        )
    return values

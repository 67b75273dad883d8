"""Text of a question, by the form in which it is asked."""

import re
from collections.abc import Sequence

from adrpo.config.audio_prompts import FORMS
from adrpo.data.base import Content
from adrpo.rewards.multiple_choice import LETTERS


def conversation(
    question: str, choices: Sequence[str], *, form: str, system: str | None
) -> Content:
    """The messages that ask a question; the clip's place is before the text of the user.

    Args:
        question: its words.
        choices: their texts, in the order shown.
        form: a name of :data:`adrpo.config.audio_prompts.FORMS`, or a text with {question} and
            {choices} or {lettered}.
        system: text of a turn of the system; None: no such turn.
    """
    turns = [] if system is None else [{"role": "system", "content": system}]
    return [*turns, {"role": "user", "content": asked(question, choices, form=form)}]


def asked(question: str, choices: Sequence[str], *, form: str) -> str:
    """The text of a question in its form; arguments as of :func:`conversation`."""
    parts = {
        "{question}": question,
        "{choices}": "\n".join(choices),
        "{lettered}": "\n".join(
            f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False)
        ),
    }
    # Piece by piece: a question may hold braces, and even the name of a place.
    pieces = re.split(r"(\{(?:question|choices|lettered)\})", FORMS.get(form, form))
    return "".join(parts.get(piece, piece) for piece in pieces)

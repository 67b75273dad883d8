"""The assistant's whole turn, where the chat template opens a thought that the model goes on with.

Templates of models that reason end the prompt with "<think>": the tag is then no part of the
completion, and whoever looks for a thought in that alone finds none, or takes it for the answer.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from adrpo.errors import reading_template
from adrpo.rewards.base import RewardTerm
from adrpo.rewards.completions import Completion

OPENED, CLOSED = "<think>", "</think>"


def thought_opening(processing: Any, arguments: Mapping[str, Any]) -> str:
    """The part of the assistant's turn that the chat template of ``processing`` (a tokenizer, or
    what has one) writes: from the thought that it opens and does not close; "" without any.
    ``arguments`` are those of the template."""
    tokenizer = getattr(processing, "tokenizer", None) or processing
    if getattr(tokenizer, "chat_template", None) is None:
        return ""
    asked = [{"role": "user", "content": "?"}]
    options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": True, **arguments}
    with reading_template():
        text = tokenizer.apply_chat_template(asked, **options)
    _, opened, after = text.rpartition(OPENED)
    return opened + after if opened and CLOSED not in after else ""


def whole_turns(completions: Sequence[Completion], opening: str) -> list[Completion]:
    """Conversations with ``opening`` before what the assistant says; texts as they are."""
    return [
        completion
        if isinstance(completion, str) or not opening or not completion
        else [completion[0] | {"content": opening + completion[0]["content"]}, *completion[1:]]
        for completion in map(_listed, completions)
    ]


def of_whole_turns(terms: Sequence[RewardTerm], opening: Callable[[], str]) -> list[RewardTerm]:
    """``terms``, of which those that read the form of a turn (their ``reads_whole_turns`` is true)
    are given whole ones; ``opening`` is asked when a reward is."""
    return [replace(term, function=of_whole_turn(term.function, opening)) for term in terms]


def of_whole_turn(function: Any, opening: Callable[[], str]) -> Any:
    """``function``, a reward, that is given whole turns if it reads their form; as it is otherwise.
    The names by which it is logged are to be taken before."""
    if not getattr(function, "reads_whole_turns", False):
        return function
    # TRL awaits what says beforehand that it is to be awaited.
    waits = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(function.__call__)
    return (_AwaitedWholeTurns if waits else _WholeTurns)(function, opening)


class _WholeTurns:
    """A reward that is given whole turns."""

    def __init__(self, function: Callable[..., Any], opening: Callable[[], str]) -> None:
        self._function, self._opening = function, opening
        self.__signature__ = inspect.signature(function)

    def __call__(self, *, completions: Sequence[Completion], **columns: Any) -> Any:
        return self._function(completions=whole_turns(completions, self._opening()), **columns)


class _AwaitedWholeTurns(_WholeTurns):
    """One whose values are awaited."""

    async def __call__(self, *, completions: Sequence[Completion], **columns: Any) -> Any:
        return await super().__call__(completions=completions, **columns)


def _listed(completion: Completion) -> Any:
    if isinstance(completion, str):
        return completion
    return [dict(message) for message in completion]

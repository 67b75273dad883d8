"""Settings on a command line: KEY=VALUE, in the same form for every command."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from adrpo.cli.completion import settings_beginning

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        show_default=False,
        autocompletion=settings_beginning,
        help="Settings that replace the recipe's, as in training.steps=200.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="The same as KEY=VALUE; repeatable.",
        autocompletion=settings_beginning,
    ),
]


def given(settings: dict[str, Any]) -> list[str]:
    """Overrides of the settings that are named."""
    return [f"{key}={value}" for key, value in settings.items() if value is not None]


def takes_settings(command: Any) -> bool:
    """True where a command of typer has settings among its words."""
    return any("KEY=VALUE" in (parameter.metavar or "") for parameter in command.params)


def as_setting(option: str, words: Sequence[str]) -> str | None:
    """The setting that ``option`` was meant for, as it is written; None where none is called so.

    Args:
        option: what a command has no option for, as ``--steps``.
        words: the command's words, in which the option's value is looked for.
    """
    from adrpo.config import settings_called

    called = settings_called(option.lstrip("-"))
    if not called:
        return None
    value = _value_of(option, words)
    return " or ".join(f"{key}={value}" for key in called)


def _value_of(option: str, words: Sequence[str]) -> str:
    """The word behind ``option``, or what its = gives it; true for an option without a value."""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word == option:
            return after if after and not after.startswith("--") else "true"
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return "VALUE"

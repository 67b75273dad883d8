"""Settings on a command line: KEY=VALUE, in the same form for every command."""

from typing import Annotated, Any

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="KEY=VALUE",
        show_default=False,
        help="Settings that replace the recipe's, as in training.steps=200.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="The same as KEY=VALUE; repeatable."),
]


def given(settings: dict[str, Any]) -> list[str]:
    """Overrides of the settings that are named."""
    return [f"{key}={value}" for key, value in settings.items() if value is not None]

"""Words that a shell completes, and options without the name of a type that says nothing."""

from typing import Any

from typer.core import TyperCommand, TyperGroup


def recipes_beginning(incomplete: str) -> list[str]:
    """The names of recipes that begin with ``incomplete``."""
    from adrpo.config import recipe_names

    return [name for name in recipe_names() if name.startswith(incomplete)]


def settings_beginning(incomplete: str) -> list[str]:
    """The settings of any domain that begin with ``incomplete``, each with its =.

    A single one comes twice, the second time with VALUE: shells put a space behind the only word
    that fits, and none may stand between = and the value.
    """
    from adrpo.config import setting_names

    names = [name for name in setting_names() if name.startswith(incomplete)]
    return [f"{name}=" for name in names] + [f"{name}=VALUE" for name in names if len(names) == 1]


def words_beginning(incomplete: str) -> list[str]:
    """Recipes and settings that begin with ``incomplete``."""
    return [*recipes_beginning(incomplete), *settings_beginning(incomplete)]


class _PlainFlags:
    """Options that take no value, without a type in the help."""

    def get_params(self, ctx: Any) -> list[Any]:
        parameters = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
        return parameters


class Command(_PlainFlags, TyperCommand):
    """A command of adrpo."""


class Group(_PlainFlags, TyperGroup):
    """Several commands of adrpo."""

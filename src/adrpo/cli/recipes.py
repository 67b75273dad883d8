"""``adrpo recipes``: the vetted settings that come with the package."""

from pathlib import Path
from typing import Annotated

import typer

from adrpo.cli.completion import Command, Group, recipes_beginning
from adrpo.errors import AdrpoError

app = typer.Typer(
    cls=Group,
    help="List the recipes; show or copy one; list their keys.",
    invoke_without_command=True,
    no_args_is_help=False,
)

Name = Annotated[
    str,
    typer.Argument(
        help="Name of the recipe, as `adrpo recipes` lists it.", autocompletion=recipes_beginning
    ),
]


@app.callback()
def recipes(context: typer.Context) -> None:
    """List the recipes; show or copy one; list their keys."""
    if context.invoked_subcommand is None:
        list_recipes()


@app.command("list", cls=Command)
def list_recipes() -> None:
    """List the recipes, by domain, loss and schedule of the penalty."""
    from adrpo.config import domain_of, load_recipe, recipe_names

    names = recipe_names()
    width = max(map(len, names), default=0)
    groups: dict[tuple[str, str, str], list[str]] = {}
    for name in names:
        recipe = load_recipe(name)
        algorithm = recipe.algorithm
        schedule = algorithm.schedule_name
        held = "no penalty" if schedule is None else f"penalty {schedule}"
        lines = groups.setdefault((domain_of(type(recipe)), algorithm.loss, held), [])
        lines.append(f"  {name:<{width}}  {recipe.description}")
    for place, (group, lines) in enumerate(sorted(groups.items())):
        typer.echo(("\n" if place else "") + "{}: loss {}, {}".format(*group))
        typer.echo("\n".join(lines))


@app.command(cls=Command)
def show(name: Name) -> None:
    """Print a recipe's file."""
    from adrpo.config import find_recipe
    from adrpo.config.documents import read_mapping

    path = find_recipe(name)
    read_mapping(path)
    typer.echo(path.read_text(encoding="utf-8"), nl=False)


@app.command(cls=Command)
def keys() -> None:
    """Print every key of a recipe with its default and meaning, as Markdown."""
    from adrpo.config.keys import keys_page

    typer.echo(keys_page(), nl=False)


@app.command(cls=Command)
def copy(
    name: Name,
    destination: Annotated[
        Path | None,
        typer.Argument(help="File or folder.", show_default="a file of the recipe's name here"),
    ] = None,
) -> None:
    """Copy a recipe, to change it and train by the copy."""
    from adrpo.config import find_recipe
    from adrpo.config.documents import read_mapping

    source = find_recipe(name)
    read_mapping(source)
    target = destination or Path(source.name)
    if target.is_dir():
        target = target / source.name
    if target.exists():
        raise AdrpoError(
            f"recipes copy: expected a destination that does not exist; received {target}; "
            f"name another file"
        )
    if not target.parent.is_dir():
        raise AdrpoError(
            f"recipes copy: expected an existing folder for {target.name}; received "
            f"{target.parent}; create it, or name another file"
        )
    target.write_bytes(source.read_bytes())
    typer.echo(f"{target}  (train by it: adrpo train {target})")

"""Recipes: the folder where they lie, and their names."""

import difflib
from pathlib import Path

from adrpo.errors import AdrpoError, or_did_you_mean

_PACKAGE = Path(__file__).resolve().parents[1]
SUFFIXES = (".yaml", ".yml")
LAUNCHER = "accelerate"
"""The folder beside the domains that holds settings of `accelerate launch`, and no recipe."""


def recipes_root() -> Path:
    """The folder of the recipes: inside an installed package, or on top of a checkout.

    Raises:
        AdrpoError: neither is there.
    """
    for folder in (_PACKAGE / "recipes", _PACKAGE.parents[1] / "recipes"):
        if folder.is_dir():
            return folder
    raise AdrpoError(
        f"expected the recipes in {_PACKAGE / 'recipes'}, which is missing; reinstall adrpo"
    )


def recipe_names() -> list[str]:
    """The names of all recipes, sorted: "<domain>/<method>"."""
    root = recipes_root()
    return sorted(
        path.relative_to(root).with_suffix("").as_posix()
        for path in root.rglob("*.yaml")
        if path.parent != root / LAUNCHER
    )


def find_recipe(name_or_path: str | Path) -> Path:
    """The file of a recipe.

    Args:
        name_or_path: a name of ``recipe_names()``, or the path of a YAML file. What ends in
            .yaml or .yml is a path.

    Raises:
        AdrpoError: no such file, or no such name; names the nearest one.
    """
    path = Path(name_or_path)
    if path.suffix in SUFFIXES:
        if path.is_file():
            return path
        raise AdrpoError(
            f"expected the path of a recipe, received {str(path)!r}: no such file"
            f"{or_did_you_mean(path)}"
        )
    name, names = path.as_posix(), recipe_names()
    if name in names:
        return recipes_root() / f"{name}.yaml"
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known names: {', '.join(names)}"
    raise AdrpoError(
        "expected a recipe's name or the path of a .yaml file, "
        f"received {str(name_or_path)!r}; {hint}"
    )

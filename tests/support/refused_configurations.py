"""Configurations that are refused, and in which words."""

from pathlib import Path

import pytest

from adrpo.config import load_recipe
from adrpo.errors import AdrpoError


def write(folder: Path, text: str, name: str = "recipe.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def of_domain(domain: str, text: str) -> str:
    """``text`` and, after it so that lines keep their numbers, its domain."""
    # An empty file and a list have no keys, so no domain.
    return text if text in ("", "- 1") else f"{text}\ndomain: {domain}\n"


def refusal(path: Path, overrides: tuple[str, ...] = ()) -> str:
    """The error line, without the folder of the test."""
    with pytest.raises(AdrpoError) as caught:
        load_recipe(path, overrides)
    line = str(caught.value)
    assert "\n" not in line
    return line.replace(f"{path.parent}/", "")

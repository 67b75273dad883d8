"""The table of papers in docs/method/choosing.md: each recipe names the paper that it stands by."""

import re
from pathlib import Path

import pytest

from adrpo.config import load_recipe

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/method/choosing.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([\w -]+), arXiv ([\d.]+) \|(.*)$", PAGE, flags=re.M)
NAMED = [
    (paper, recipe) for _, paper, row in ROWS for recipe in re.findall(r"`(\w+/[\w.-]+)`", row)
]


def test_the_table_is_read():
    assert len(ROWS) == 12
    assert {recipe.partition("/")[0] for _, recipe in NAMED} == {"flow", "llm", "audio"}


@pytest.mark.parametrize(("paper", "recipe"), NAMED, ids=[recipe for _, recipe in NAMED])
def test_a_recipe_s_source_is_the_paper_of_its_row(paper: str, recipe: str):
    assert paper in load_recipe(recipe).source

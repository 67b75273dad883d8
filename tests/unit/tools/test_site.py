"""The extension by which Sphinx builds the site, and the pictures of the ideas."""

import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import typer

pytest.importorskip("sphinx", reason="Sphinx is one of the development tools")

from tools import ideas, site

ROOT = Path(__file__).parents[3]


def test_the_navigation_is_the_lists_of_the_index_and_leaves_no_page_out():
    text = (
        "# Title\n\nsee [no](start/no.md)\n\n## Start\n\n- [One](start/one.md): first\n\n## Use\n\n"
    )
    text += "- [Two](use/two.md#part), [Three](use/three.md)\n- [Top](../README.md)\n"
    pages = ["docs/start/one", "docs/start/late", "docs/use/two", "docs/use/three"]
    assert list(site.navigation(text, pages)) == [
        ("Start", {"docs/start/one": "One", "docs/start/late": ""}),
        # A link to a part of a page is none to the page.
        ("Use", {"docs/use/three": "Three", "README": "Top", "docs/use/two": ""}),
    ]


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("A |v - u|^2 of *dims, x_ and x_0", r"A \|v - u\|^2 of \*dims, x\_ and x_0"),
        ("a literal ``|x|`` and `a*b`, *this* one", "a literal ``|x|`` and `a*b`, *this* one"),
        ("first\n\n    k = |x|\n\nlast", "first\n\n::\n\n    k = |x|\n\nlast"),
        (":param x: |x|\n\n    more", r":param x: \|x\|" + "\n\n    more"),
        (">>> |x|", ">>> |x|"),
        (r"\*\*columns", r"\*\*columns"),
    ],
)
def test_formulas_of_docstrings_are_no_marks(text: str, escaped: str):
    assert site.escaped(text) == escaped


def test_every_package_with_public_names_has_a_page():
    # As site.public_names has them, without the imports.
    rooms = {path.parent for path in (ROOT / "src" / "adrpo").rglob("__init__.py")}
    named = [
        ".".join(room.relative_to(ROOT / "src").parts)
        for room in rooms
        if len(room.relative_to(ROOT / "src").parts) < 3
        and "\n__all__ = " in (room / "__init__.py").read_text(encoding="utf-8")
    ]
    packages = set(named) - site.NO_PAGE
    pages = (ROOT / "docs" / "reference" / "api").glob("*.md")
    assert packages == {
        re.findall(r"automodule:: (\S+)", page.read_text(encoding="utf-8"))[0] for page in pages
    }


def test_the_page_of_the_command_line_has_every_command_s_help():
    pages = dict(site.helps(typer.main.get_command(site.cli), "adrpo"))
    assert {"adrpo", "adrpo train", "adrpo recipes copy"} <= pages.keys()
    assert "Usage: adrpo train [OPTIONS]" in pages["adrpo train"]
    assert "--dry-run  " in pages["adrpo train"] and "\x1b" not in pages["adrpo train"]


def test_the_committed_pictures_are_what_the_command_draws(tmp_path: Path):
    pinned = re.findall(r"^matplotlib==(.+)$", (ROOT / "constraints.txt").read_text(), flags=re.M)
    if [matplotlib.__version__] != pinned:
        pytest.skip(f"drawn by matplotlib {pinned}; here is {matplotlib.__version__}")
    number = re.compile(r"-?\d+\.\d+")
    for drawn in ideas.draw(tmp_path):
        texts = [file.read_text() for file in (drawn, ideas.FOLDER / drawn.name)]
        # Clip paths are named by a hash, which rounding changes.
        words, kept = (number.sub("", re.sub(r"p[0-9a-f]{10}|m[0-9a-f]{10}", "", t)) for t in texts)
        assert words == kept, drawn.name
        # A hundredth of a point: processors round differently.
        numbers = [np.array(number.findall(text), dtype=float) for text in texts]
        np.testing.assert_allclose(*numbers, atol=0.01, err_msg=drawn.name)

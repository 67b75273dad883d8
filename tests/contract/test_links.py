"""What a document points at is there: files, and the sections that a link names."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "src/**/*.md", "recipes/**/*.md", "tools/**/*.md")
    for path in ROOT.glob(pattern)
)
RECORDS = {"results", "written_before"}
"""Folders of what was written at the time, old paths among it."""

SPEAKING = sorted(
    path
    for folder in ("src", "tests", "recipes", "benchmarks", "tools", "examples")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".yaml", ".j2") and not RECORDS & set(path.relative_to(ROOT).parts)
)
LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
IMAGE = re.compile(r'<img src="([^"]+)"')


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(page: Path) -> str:
    """The text of ``page`` without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """What a link may have behind its # for each heading, by GitHub's rule."""
    headings = re.findall(r"^#+ +(.*?) *$", prose(page), flags=re.M)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in words}


def relative_links(page: Path) -> list[tuple[str, Path, str]]:
    """Each link of ``page`` into the repository: as it is written, its file and its anchor."""
    text = prose(page)
    written = [link for link in [*LINK.findall(text), *IMAGE.findall(text)] if ":" not in link]
    split = [(link, *link.partition("#")[::2]) for link in written]
    return [(link, (page.parent / file if file else page).resolve(), a) for link, file, a in split]


def test_a_heading_is_an_anchor_as_the_page_will_have_it(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("# Rows of `Table 1`, and *more*\n\n```\n# no heading\n```\n\n## A - b\n")
    assert anchors(page) == {"rows-of-table-1-and-more", "a---b"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_somewhere(page: Path):
    broken = [
        link
        for link, file, anchor in relative_links(page)
        if not file.exists() or (anchor and anchor not in anchors(file))
    ]
    assert not broken


def test_every_page_of_the_documents_is_linked_from_their_index():
    index = ROOT / "docs" / "index.md"
    linked, by_readme = (
        {file for _, file, _ in relative_links(page)} for page in (index, ROOT / "README.md")
    )
    assert set((ROOT / "docs").rglob("*.md")) - linked == {index}
    assert index in by_readme


@pytest.mark.parametrize(
    "path", [path for path in SPEAKING if b"docs/" in path.read_bytes()], ids=name
)
def test_every_page_that_the_source_names_exists(path: Path):
    named = re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text(encoding="utf-8"))
    assert [page for page in named if not (ROOT / page).is_file()] == []

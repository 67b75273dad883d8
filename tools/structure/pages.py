"""Changes that a page of docs/extend tells its reader to make: files, edits, commands.

Three kinds of blocks are changes; a page may have others.

    ```python or ```yaml     a new file, whose path is the comment in the first line
    ```diff                  an edit of the file that its header names, as `git diff` prints one
    ```bash                  commands, run in the root of the checkout
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.M | re.S)
PATH = re.compile(r"# ([\w./-]+\.(?:py|yaml|jsonl))\n")
HEADER = re.compile(r"--- a/(.+)\n\+\+\+ b/(.+)\n")


@dataclass(frozen=True, kw_only=True)
class Change:
    """One block: ``text`` is a new file's content, a file's edits, or commands."""

    kind: str
    path: str
    text: str


def read_page(page: Path) -> list[Change]:
    """The changes of ``page``, in its order.

    Raises ValueError for a diff whose two names differ or that has none.
    """
    changes: list[Change] = []
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "bash":
            changes.append(Change(kind="run", path="", text=text))
        elif language == "diff":
            header = HEADER.match(text)
            if header is None or header[1] != header[2]:
                raise ValueError(f"{page}: expected a diff of one file; received {text[:80]!r}")
            changes.append(Change(kind="edit", path=header[1], text=text[header.end() :]))
        elif first := PATH.match(text):
            changes.append(Change(kind="create", path=first[1], text=text[first.end() :]))
    return changes


def touched(changes: Sequence[Change]) -> list[str]:
    """The files that ``changes`` create or edit, each once, in their order."""
    return list(dict.fromkeys(change.path for change in changes if change.path))


def apply(change: Change, root: Path) -> None:
    """Create or edit the file of ``change`` below ``root``.

    Raises ValueError where a new file is there already, or an edit's lines are not there once.
    """
    path = root / change.path
    if change.kind == "create":
        if path.exists():
            raise ValueError(f"{change.path}: expected a new file; it is there already")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(change.text, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    for before, after in hunks(change.text):
        if text.count(before) != 1:
            raise ValueError(
                f"{change.path}: expected once, found {text.count(before)} times:\n{before}"
            )
        text = text.replace(before, after)
    path.write_text(text, encoding="utf-8")


def hunks(diff: str) -> list[tuple[str, str]]:
    """The lines before and after of each part of a diff; numbers behind ``@@`` are not read."""
    found = []
    for part in re.split(r"^@@.*\n", diff, flags=re.M)[1:]:
        lines = part.splitlines(keepends=True)
        before = "".join(line[1:] or "\n" for line in lines if line[0] in " -\n")
        after = "".join(line[1:] or "\n" for line in lines if line[0] in " +\n")
        found.append((before, after))
    return found


PAGES = {
    "method": "add-a-method.md",
    "family": "add-a-model.md",
    "reward": "add-a-reward.md",
    "metric": "add-a-metric.md",
    "domain": "add-a-domain.md",
}
"""Kind of a part -> the page of docs/extend that adds one."""

OWN = "src/adrpo/coin/"
"""The package of the domain that its page adds."""

HOUSE = ("docs/", "pyproject.toml", "recipes/", "src/", "tests/", "tools/")


def needed(kind: str, root: Path) -> list[str]:
    """The files of the checkout that the page of ``kind`` creates and edits by hand; those of a
    domain without its own package, and none that lies in the user's folder."""
    changes = read_page(root / "docs" / "extend" / PAGES[kind])
    return [
        path for path in touched(changes) if path.startswith(HOUSE) and not path.startswith(OWN)
    ]

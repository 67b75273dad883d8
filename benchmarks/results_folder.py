"""A folder of results: ``summary.json`` with command and machine, and ``table.md``."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

AGAIN = ("--redraw", "--only-tell")
"""Words of a command that only tells again what it has measured, and not how it was measured."""


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of text in Markdown."""
    first, *others = (f"| {' | '.join(cells)} |\n" for cells in (heads, *rows))
    return "".join([first, "|" + "---|" * len(heads) + "\n", *others])


def write_results(
    folder: Path, content: Mapping[str, Any], table: str, environment: Mapping[str, Any]
) -> None:
    """Write ``content`` between this process's command and its ``environment``, and the ``table``,
    which is printed, too.

    ``environment`` is the record (``adrpo.runs.environment``) from before the first file is
    written: afterwards the checkout is another than its commit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = [word for word in sys.argv if word not in AGAIN]
    summary = {"command": " ".join(["python", *words]), **content, "environment": environment}
    text = json.dumps(summary, indent=1) + "\n"
    (folder / "summary.json").write_text(text, encoding="utf-8")
    (folder / "table.md").write_text(table, encoding="utf-8")
    print(table)

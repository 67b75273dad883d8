"""The page docs/results/sources.md: command, commit, machine and seeds of each quoted folder.

``benchmarks/quoted.py`` draws it and holds it to the committed summaries.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from recomputed import has_rows, provenance

PAGE = "docs/results/sources.md"
HEAD = """\
# Where the figures are from

Each number with an interval in the [README](../../README.md) and in these pages is from one of
these folders. `python benchmarks/quoted.py` finds all of them, makes them again from the committed
rows by the [one form of every interval](../use/comparison.md#the-form-of-every-interval), and fails
where a page or a committed summary says something else; CI runs it. With `--write` it writes the
numbers into the pages, and this page. [`quoted.yaml`](../../benchmarks/quoted.yaml) lists which
number is from where.

Commits and machines are those of the runs. A summary that was drawn again later has the later one.

| results | seeds | commit | machine | intervals |
|---|---|---|---|---|
"""
AGAIN = "made again from the rows"


def sources_page(folders: Sequence[str], told: Mapping[str, Mapping[str, Any]]) -> str:
    """The page's text; ``told`` is what the list says of folders without rows or seeds."""
    rows, commands = [], []
    for name in folders:
        found, own = provenance(name), told.get(name, {})
        seeds = ", ".join(map(str, found.seeds)) or own["seeds"]
        cells = [
            f"[{name}](../../benchmarks/results/{name})",
            seeds,
            ", ".join(found.commits),
            "; ".join(found.machines),
            AGAIN if has_rows(name) else own["rows"],
        ]
        rows.append(f"| {' | '.join(cells)} |\n")
        commands.append(f"\n{name}:\n\n    {found.command}\n")
    return HEAD + "".join(rows) + "\n## Commands\n" + "".join(commands)

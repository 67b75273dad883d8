"""Counts of how far a change reaches, before the domains shared one text and now.

``python -m tools.structure [--output benchmarks/results/structure]``

Counted are the files that are edited or created by hand to add a method, a family, a reward, a
metric or a domain (sources, recipe, tests, documents; not what a command writes), and the places
outside a domain's package that ask which domain it is (``branches``). Now, the files are those of
the pages in docs/extend, whose tests make exactly these changes; before, they are listed in
``before`` and read at that commit, which ``git`` must have.
"""

import argparse
import io
import json
import subprocess
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.structure.before import COMMIT, PARTS, check
from tools.structure.branches import Place, places
from tools.structure.pages import needed

ROOT = Path(__file__).parents[2]


def git(*arguments: str) -> bytes:
    return subprocess.run(
        ["git", "-C", str(ROOT), *arguments], check=True, capture_output=True
    ).stdout


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A folder with the files of ``commit`` that are read here."""
    archive = git("archive", commit, "docs", "pyproject.toml", "recipes", "src", "tests")
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
        yield Path(folder)


def count() -> dict[str, Any]:
    """Files of each kind and places on the domain, before and after."""
    with checked_out(COMMIT) as root:
        check(root)
        before = places(root / "src" / "adrpo")
    return {
        "command": "python -m tools.structure",
        "before": {
            "commit": COMMIT,
            "examples": {kind: part["example"] for kind, part in PARTS.items()},
            "files": {kind: part["files"] for kind, part in PARTS.items()},
            "places": by_kind(before),
        },
        "after": {
            "commit": git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
            .decode()
            .strip(),
            "files": {kind: needed(kind, ROOT) for kind in PARTS},
            "places": by_kind(places(ROOT / "src" / "adrpo")),
        },
    }


def by_kind(found: list[Place]) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for place in found:
        kinds.setdefault(place.kind, []).append(f"{place.file}:{place.line}: {place.text}")
    return kinds


def to_markdown(counted: dict[str, Any]) -> str:
    before, after = counted["before"], counted["after"]
    lines = [f"| | at {before['commit']} | now |", "|---|---|---|"]
    for kind, files in before["files"].items():
        own = "its package and " if kind == "domain" else ""
        now = len(after["files"][kind])
        lines.append(f"| files to add a {kind} | {own}{len(files)} | {own}{now} |")
    kinds = {
        side: Counter({k: len(v) for k, v in counted[side]["places"].items()})
        for side in ("before", "after")
    }
    branches = [sum(kinds[side].values()) - kinds[side]["import"] for side in kinds]
    imports = [kinds[side]["import"] for side in kinds]
    lines.append(f"| branches on the domain | {branches[0]} | {branches[1]} |")
    lines.append(f"| functions outside that import a domain | {imports[0]} | {imports[1]} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=None, help="folder for the results")
    given = parser.parse_args()
    counted = count()
    print(to_markdown(counted), end="")
    if given.output is not None:
        given.output.mkdir(parents=True, exist_ok=True)
        text = json.dumps(counted, indent=1) + "\n"
        (given.output / "summary.json").write_text(text, encoding="utf-8")
        (given.output / "table.md").write_text(to_markdown(counted), encoding="utf-8")


if __name__ == "__main__":
    main()

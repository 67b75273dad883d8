"""Holds every quoted figure to the committed rows: a number with an interval in README and docs.

``python benchmarks/quoted.py`` fails where

- a document has a number with an interval that ``quoted.yaml`` does not list, or lacks
  one that it lists;
- a document says another number than the rows of its source do (``benchmarks/recomputed.py``);
- a committed summary or table is not what its rows say;
- the summary of a quoted folder does not name its command, commit, machine and seeds.

``--write`` writes the numbers of the rows into the documents, draws docs/results/sources.md again,
and prints each text that changed. It takes the order of the list for that of the text: read what it
prints. The list itself is in ``quoted.yaml``, whose head tells its form.
"""

import argparse
import difflib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quoted_list import LISTING, TABLE, Figure, Listed, Table, entries, listing, quoted_folders
from recomputed import ROWS, differences, has_rows, provenance
from sources import PAGE, sources_page

from adrpo.errors import AdrpoError

ROOT = Path(__file__).parents[1]
PROGRAM = "python benchmarks/quoted.py"

_N = r"[+\-−]?\d+(?:,\d{3})*(?:\.\d+)?"
_PAIR = rf"\[(?P<low>{_N})(?P<comma>,\s+)(?P<high>{_N})\]"
FIGURE = re.compile(
    rf"(?P<mean>{_N})(?P<marks>\**(?:\s±\s{_N})?\**(?:\\\*)?\s+){_PAIR}"
    rf"(?P<gap>\s+\(tells\s+)?(?(gap)(?P<tells>{_N})\))"
)
"""``mean [low, high]``, with standard error and marks, and the difference that it would tell."""

PAIR = re.compile(_PAIR)
OF_VALUES = re.compile(r"(?:\bin|\w:)\s+$")
"""Before an interval that values lie in, not a result: "in [0, 1]", "Paper: [-1, 1]"."""

CODE = re.compile(r"^( *)```.*?^\1```|`[^`\n]+`", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Place:
    """A place of a document: of a figure, or of a table with a figure at least."""

    start: int
    end: int
    text: str
    figure: re.Match[str] | None = field(default=None, compare=False)

    def said(self) -> str:
        """The figure in one line without marks, or the table."""
        if self.figure is None:
            return self.text
        parts = self.figure.groupdict()
        tells = f" (tells {parts['tells']})" if parts["tells"] else ""
        return f"{parts['mean']} [{parts['low']}, {parts['high']}]{tells}"


def documents() -> dict[str, str]:
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def prose(text: str) -> str:
    """``text`` with its code blanked, every other letter in its place."""
    return CODE.sub(lambda code: re.sub(r"[^\n]", " ", code.group()), text)


def places(text: str, listed: Sequence[Listed]) -> list[Place]:
    """The places of figures in ``text``, in order; a table that is listed whole is one place."""
    found: list[Place] = []
    tables = [match.span() for match in TABLE.finditer(text)]
    heads = {entry.said().partition("\n")[0] for entry in listed if isinstance(entry, Table)}
    for match in FIGURE.finditer(prose(text)):
        if found and match.start() < found[-1].end:
            continue
        around = next((span for span in tables if span[0] <= match.start() < span[1]), None)
        expected = listed[len(found)] if len(found) < len(listed) else None
        whole = around is not None and text[slice(*around)].partition("\n")[0] in heads
        if around is not None and (whole or isinstance(expected, Table)):
            found.append(Place(*around, text[slice(*around)]))
        else:
            found.append(Place(*match.span(), match.group(), match))
    return found


def line(name: str, text: str, place: int) -> str:
    """The line of the document in which ``place`` of its text lies."""
    return f"{name}:{text.count(chr(10), 0, place) + 1}"


def check_document(name: str, text: str, listed: Sequence[Listed]) -> list[str]:
    """The faults in the figures of a document, a line each."""
    found = places(text, listed)
    wanted = [entry.said() for entry in listed]
    received = [place.said() for place in found]

    def at(place: Place) -> str:
        return line(name, text, place.start)

    problems = _stray_pairs(name, text)
    if len(found) == len(listed):
        steps = [("replace", i, i + 1, i, i + 1) for i in range(len(found))]
    else:
        steps = difflib.SequenceMatcher(None, wanted, received, autojunk=False).get_opcodes()
    for kind, first, last, begin, end in steps:
        if kind == "equal":
            continue
        both = min(last - first, end - begin)
        paired = slice(first, first + both), slice(begin, begin + both)
        for entry, place in zip(listed[paired[0]], found[paired[1]], strict=True):
            said = entry.said()
            if said != place.said():
                problems.append(_differing(at(place), said, place.said(), entry.source))
        problems += [
            f"{at(place)}: expected a figure that {LISTING.name} lists; received {place.said()!r}; "
            f"list its source there"
            for place in found[begin + both : end]
        ]
        problems += [
            f"{name}: expected {entry.said()!r}, which {LISTING.name} lists as {entry.source}; "
            f"received no such figure; take it off the list"
            for entry in listed[first + both : last]
        ]
    return problems


def _differing(where: str, said: str, received: str, source: str) -> str:
    """One line about two texts; of tables, about their first lines that differ."""
    if "\n" in said:
        pairs = zip(said.splitlines(), received.splitlines(), strict=False)
        lines = next((pair for pair in pairs if pair[0] != pair[1]), None)
        said, received = lines or ("a table of as many rows", "one with more or fewer")
    return (
        f"{where}: expected {said!r}, which {source} has; received {received!r}; run `{PROGRAM} "
        f"--write`, and read the sentence again"
    )


def _stray_pairs(name: str, text: str) -> list[str]:
    """Intervals without a number before them that are not those of values."""
    words = prose(text)
    figures = [match.span() for match in FIGURE.finditer(words)]
    return [
        f"{line(name, text, match.start())}: expected a number before an interval; received "
        f"{match.group()!r} alone; write `mean [low, high]`, or `in [low, high]` where it is no "
        f"result"
        for match in PAIR.finditer(words)
        if not any(start <= match.start() < end for start, end in figures)
        and not OF_VALUES.search(words[: match.start()])
    ]


def write_document(name: str, text: str, listed: Sequence[Listed]) -> tuple[str, list[str]]:
    """The ``text`` with the numbers of the rows, and what has changed in it, a line each.

    Raises AdrpoError where the list and the text do not have equally many figures.
    """
    found = places(text, listed)
    if len(found) != len(listed):
        raise AdrpoError("\n".join(check_document(name, text, listed)))
    pieces, end, changed = [], 0, []
    for place, entry in zip(found, listed, strict=True):
        said = entry.said()
        pieces.append(text[end : place.start])
        end = place.end
        if said == place.said():
            pieces.append(place.text)
            continue
        old = f"{place.said()} -> {said} of" if place.figure is not None else "the table"
        changed.append(f"{line(name, text, place.start)}: {old} {entry.source}")
        pieces.append(_rewritten(place, entry))
    return "".join([*pieces, text[end:]]), changed


def _rewritten(place: Place, entry: Listed) -> str:
    """The text of the place with the entry's numbers, marks and line ends kept."""
    if place.figure is None or not isinstance(entry, Figure):
        return entry.said()
    told, match = entry.parts(), place.figure
    tells = f"{match['gap'] or ' (tells '}{told['tells']})" if entry.tells else ""
    pair = f"[{told['low']}{match['comma']}{told['high']}]"
    return f"{told['mean']}{match['marks']}{pair}{tells}"


def check(texts: Mapping[str, str]) -> list[str]:
    """The faults in the documents, and in the folders that they quote, a line each."""
    listed = {name: entries(written) for name, written in listing()["documents"].items()}
    problems = [
        f"{LISTING.name}: expected documents of README and docs; received {name}; take it out"
        for name in listed.keys() - texts.keys()
    ]
    for folder in quoted_folders(listed):
        problems += differences(folder) if has_rows(folder) else _without_rows(folder)
        problems += unnamed(folder)
    for name, text in texts.items():
        problems += check_document(name, text, listed.get(name, []))
    if texts.get(PAGE) != sources_page(quoted_folders(listed), listing()["folders"]):
        problems.append(
            f"{PAGE}: expected what the summaries say; run benchmarks/quoted.py --write"
        )
    return problems


def _without_rows(folder: str) -> list[str]:
    if "rows" in listing()["folders"].get(folder, {}):
        return []
    return [
        f"{folder}: expected committed rows; received none of {', '.join(ROWS)}; keep them, or say "
        f"why not under `folders` of {LISTING.name}"
    ]


def unnamed(folder: str) -> list[str]:
    """A line for what the folder does not say of how it was made."""
    found, told = provenance(folder), listing()["folders"].get(folder, {})
    named = {
        "command": found.command,
        "commit": all(found.commits),
        "machine": found.machines,
        "seeds": found.seeds or told.get("seeds"),
    }
    return [
        f"{folder}/summary.json: expected its {part}; received none; write it by its command"
        for part, value in named.items()
        if not value
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the numbers of the rows")
    try:
        sys.exit(run(write=parser.parse_args().write))
    except AdrpoError as error:
        sys.exit(str(error))


def run(*, write: bool) -> int:
    """Exit code of the check, after the documents are written with ``write``."""
    if write:
        listed = {name: entries(written) for name, written in listing()["documents"].items()}
        texts = documents()
        texts[PAGE] = sources_page(quoted_folders(listed), listing()["folders"])
        for name, text in texts.items():
            again, changed = write_document(name, text, listed.get(name, []))
            (ROOT / name).write_text(again, encoding="utf-8")
            print(*changed, sep="\n", end="\n" if changed else "")
    problems = check(documents())
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"{len(problems)} problems")
    return int(bool(problems))


if __name__ == "__main__":
    main()

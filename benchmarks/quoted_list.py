"""The list of quoted figures, ``quoted.yaml``, and what the rows say for each of its entries.

``benchmarks/quoted.py`` holds the documents to it.
"""

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml
from recomputed import RESULTS, committed, has_rows, recomputed

from adrpo.errors import AdrpoError
from adrpo.evaluation.intervals import over_seeds

LISTING = Path(__file__).parent / "quoted.yaml"
TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)


class Listed(Protocol):
    """An entry of the list, which stands for one place of a document."""

    @property
    def source(self) -> str:
        """The path or the file that the number is from."""
        ...

    @property
    def folder(self) -> str: ...

    def said(self) -> str:
        """The text that the rows make; of a figure, one line."""
        ...


@dataclass(frozen=True)
class Figure:
    """A number with its interval."""

    path: str
    form: str
    minus: str | None = None
    turned: bool = False
    tells: bool = False

    @property
    def source(self) -> str:
        return self.path if self.minus is None else f"{self.path}, minus {self.minus}"

    @property
    def folder(self) -> str:
        return self.path.partition(" > ")[0]

    def parts(self) -> dict[str, str]:
        """mean, low, high and, where it is told, the detectable difference, as printed."""
        estimate = looked_up(self.path)
        if self.minus is not None:
            # Paired by seed: of single numbers, there are no prompts to pair.
            pairs = zip(estimate["seeds"], looked_up(self.minus)["seeds"], strict=True)
            estimate = over_seeds([ours - theirs for ours, theirs in pairs]).to_json(tested=True)
        mean, low, high = (estimate[name] for name in ("mean", "low", "high"))
        if self.turned:
            mean, low, high = -mean, -high, -low
        found = {"mean": mean, "low": low, "high": high}
        told = {name: as_text(value, self.form) for name, value in found.items()}
        if self.tells:
            told["tells"] = as_text(estimate["detectable"], self.form.lstrip("+"))
        return told

    def said(self) -> str:
        told = self.parts()
        tells = f" (tells {told['tells']})" if self.tells else ""
        return f"{told['mean']} [{told['low']}, {told['high']}]{tells}"


@dataclass(frozen=True)
class Table:
    """A whole table, which a folder's command has drawn."""

    folder: str
    file: str

    @property
    def source(self) -> str:
        return f"{self.folder}/{self.file}"

    def said(self) -> str:
        if has_rows(self.folder):
            text = recomputed(self.folder).tables[self.file]
        else:
            text = (RESULTS / self.source).read_text(encoding="utf-8")
        found = TABLE.search(text)
        assert found is not None, self.source
        return found.group()


def as_text(value: float, form: str) -> str:
    """``value`` in Python's ``form``; with g in digits alone, 7000 and not 7e+03."""
    if form.endswith("g"):
        return f"{float(format(value, form)):.15g}"
    return format(value, form)


def looked_up(path: str) -> dict[str, Any]:
    """The estimate at ``path`` of a folder's summary.

    Raises AdrpoError where there is none.
    """
    name, *keys = path.split(" > ")
    tree: Any = recomputed(name).summary if has_rows(name) else committed(name)
    for key in keys:
        known = dict(_named(tree))
        if key not in known:
            raise AdrpoError(
                f"{LISTING.name}: expected one of {', '.join(known) or 'nothing'} in the path "
                f"{path!r}; received {key!r}; look into benchmarks/results/{name}/summary.json"
            )
        tree = known[key]
    if not isinstance(tree, dict) or not {"mean", "low", "high"} <= tree.keys():
        raise AdrpoError(
            f"{LISTING.name}: expected the path of an estimate with mean, low and high; received "
            f"{path!r}; name one in benchmarks/results/{name}/summary.json"
        )
    return tree


def _named(tree: Any) -> Iterator[tuple[str, Any]]:
    """The parts of ``tree``, by name: the splits' names stand for themselves, a trade-off is called
    by its reward and price, and what is read at a price by its label."""
    if isinstance(tree, list):
        for part in tree:
            yield part.get("label", f"{part.get('reward')} over {part.get('price')}"), part
    elif isinstance(tree, dict):
        yield from tree.items()
        yield from tree.get("splits", {}).items()


@functools.cache
def listing() -> dict[str, Any]:
    return yaml.safe_load(LISTING.read_text(encoding="utf-8"))


def entries(written: Sequence[Mapping[str, Any]]) -> list[Listed]:
    """The list of one document, each figure of its grids by itself."""
    found: list[Listed] = []
    for entry in written:
        if "table" in entry:
            folder, _, file = entry["table"].partition("/")
            found.append(Table(folder, file or "table.md"))
        elif "rows" in entry:
            cells = [
                {**cell, "of": cell["of"].replace("{row}", row)}
                for row in entry["rows"]
                for cell in entry["cells"]
            ]
            found += entries(cells)
        else:
            rest = {key: entry[key] for key in entry.keys() - {"of", "as"}}
            found.append(Figure(entry["of"], entry["as"], **rest))
    return found


def quoted_folders(listed: Mapping[str, Sequence[Listed]]) -> list[str]:
    return sorted({entry.folder for of_document in listed.values() for entry in of_document})

"""The record of the outcomes: the newest one of each fault, and their counts."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tools.mutants.faults import Fault, mark

RECORD = Path("benchmarks/results/mutants")
FIELDS = (
    "id", "list", "outcome", "said", "seconds", "cpu_seconds", "commit", "fault", "source",
)  # fmt: skip
BAD = ("survived", "not tried", "killed, though listed as equivalent")


class Record:
    """Outcomes of ``faults``, which are all of the lists, in ``folder``.

    ``rows.jsonl`` has a row for each fault that was tried, in the order of the lists, and
    ``summary.json`` the counts. A row is stale where the fault or the file that it is planted in
    has another text now than the row's marks ``fault`` and ``source`` are of.
    """

    def __init__(self, folder: Path, faults: list[Fault], root: Path, command: str) -> None:
        self.folder, self.faults, self.command = folder, faults, command
        self._marks = {
            fault.id: (fault.digest, mark((root / fault.file).read_bytes())) for fault in faults
        }
        path = folder / "rows.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        self.rows: dict[str, dict[str, Any]] = {
            row["id"]: row for row in map(json.loads, lines) if row["id"] in self._marks
        }

    def is_current(self, row: dict[str, Any]) -> bool:
        """True where ``row`` is of the fault and the file as they are now."""
        return self._marks.get(row["id"]) == (row.get("fault"), row.get("source"))

    def state(self, fault: Fault) -> str:
        """The outcome of the fault, or ``stale`` or ``never tried``."""
        if (row := self.rows.get(fault.id)) is None:
            return "never tried"
        return row["outcome"] if self.is_current(row) else "stale"

    def left(self) -> list[Fault]:
        """The faults whose outcome is not known, or bad."""
        bad = (*BAD, "stale", "never tried")
        return [fault for fault in self.faults if self.state(fault) in bad]

    def take(self, rows: Iterable[dict[str, Any]]) -> None:
        """Put the last current one of ``rows``, also of other trees, where a current one lacks; of
        a tree with changes that no commit holds none is taken."""
        lack = {fault.id for fault in self.faults if self.state(fault) in ("stale", "never tried")}
        for row in rows:
            known = row["outcome"] != "not tried" and not row.get("commit", "").endswith("-dirty")
            if row.get("id") in lack and known and self.is_current(row):
                self.put(row)

    def put(self, row: dict[str, Any]) -> None:
        """Put the outcome in the place of the one of that fault."""
        self.rows[row["id"]] = {name: row[name] for name in FIELDS}

    def write(self) -> None:
        """Write both files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = [self.rows[fault.id] for fault in self.faults if fault.id in self.rows]
        texts = {
            "rows.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
            "summary.json": json.dumps(self.summary(), indent=1) + "\n",
        }
        for name, text in texts.items():
            new = self.folder / f"{name}.new"
            new.write_text(text, encoding="utf-8")
            new.replace(self.folder / name)

    def summary(self) -> dict[str, Any]:
        """The counts, the faults that need a reader, and what it took."""
        lists: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for fault in self.faults:
            lists[fault.list_name][self.state(fault)] += 1
        rows = self.rows.values()
        return {
            "command": self.command,
            "commits": dict(Counter(row["commit"] for row in rows)),
            "faults": len(self.faults),
            "outcomes": dict(sum(lists.values(), Counter())),
            "lists": {name: dict(counted) for name, counted in lists.items()},
            "left": {fault.id: self.state(fault) for fault in self.left()},
            "equivalent": {fault.id: fault.equivalent for fault in self.faults if fault.equivalent},
            "cpu_seconds": round(sum(row["cpu_seconds"] for row in rows)),
        }


def sentence(summary: dict[str, Any]) -> str:
    """The counts of a summary in words, as documents quote them."""
    counted = sorted(summary["outcomes"].items(), key=lambda item: -item[1])
    return f"{summary['faults']} faults: " + ", ".join(f"{n} {kind}" for kind, n in counted)

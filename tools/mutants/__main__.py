"""The tests, tested: each listed fault is planted in a copy of the tree, and a test must fail.

``python -m tools.mutants [--only ID_OR_PREFIX ...] [--left] [--jobs N] [--out FOLDER] [--check]``

The lists are in ``tools/mutants/lists`` (their form: ``faults``). The chosen tests must pass
without a fault first, once per test file. A fault is killed where one of its tests fails or takes
more than ten times its time, and survives where all pass; one that is listed as equivalent must
survive. Outcomes are kept in ``--output``, with the commit, and not made again for the same tree;
the newest of each fault is put into the record in ``--out`` (``record``), and with ``--left`` only
those are tried that it lacks, has of another text or has as surviving; ``--check`` names them.
The exit code is 1 where a fault survives, could not be tried, or is listed as equivalent and was
killed, and 2 where a list is not of today's tree.
"""

import argparse
import json
import queue
import shlex
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tools.mutants.copies import FAILED, LISTS, PASSED, Copy, Ran, Tree
from tools.mutants.faults import Fault, ListError, read_lists
from tools.mutants.record import BAD, RECORD, Record

LIMIT = 900.0
"""Seconds that the tests of a file may take without a fault."""
TIMES, LEAST = 10.0, 60.0
"""With a fault they may take these seconds, and so many times what they took without it."""


class Trial:
    """Trials of ``faults`` in ``jobs`` copies of the tree at ``root``; ``outcomes`` by id."""

    def __init__(
        self, root: Path, faults: list[Fault], *, output: Path, jobs: int, record: Record | None
    ) -> None:
        self.root, self.faults, self.output, self.jobs = root, faults, output, jobs
        self.record = record
        self.tree = Tree(root)
        self.outcomes: dict[str, str] = {}
        self._writing = threading.Lock()
        self._looking: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._tried = self._read()
        self._kept = {row["key"]: row for row in self._tried if row["outcome"] != "not tried"}

    def run(self) -> None:
        """Try all faults whose outcome for this tree is not kept in ``output``."""
        for fault in self.faults:
            if (row := self._kept.get(self._key(fault.tests, fault))) is not None:
                self.outcomes[fault.id] = row["outcome"]
        left = [fault for fault in self.faults if fault.id not in self.outcomes]
        if self.outcomes:
            print(f"{len(self.outcomes)} outcomes are kept in {self.output}", flush=True)
        if self.record is not None:
            self.record.take(self._tried)
            self.record.write()
        if not left:
            return
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ExitStack() as stack:
            copies: queue.Queue[Copy] = queue.Queue()
            for number in range(min(self.jobs, len(left))):
                copy = self.tree.copy(Path(folder) / str(number))
                stack.callback(copy.close)
                copies.put(copy)

            def on_a_copy(fault: Fault) -> None:
                copy = copies.get()
                try:
                    self._try(copy, fault)
                finally:
                    copies.put(copy)

            with ThreadPoolExecutor(copies.qsize()) as pool:
                list(pool.map(on_a_copy, left))

    def _key(self, tests: list[str], fault: Fault | None = None) -> str:
        """A mark of all that an outcome follows from."""
        return self.tree.digest(tests) + ("" if fault is None else fault.digest)

    def _read(self) -> list[dict[str, Any]]:
        if not self.output.is_file():
            return []
        lines = self.output.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def _try(self, copy: Copy, fault: Fault) -> None:
        limit = self._limit(copy, fault)
        if limit is None:
            self._note(fault, "not tried", "its tests fail without it, too")
            return
        ran = copy.run_with(fault, limit=limit)
        if ran.code == PASSED:
            outcome, said = ("equivalent" if fault.equivalent else "survived"), fault.meaning
        elif ran.code in (FAILED, None):
            outcome = "killed, though listed as equivalent" if fault.equivalent else "killed"
            said = "its tests ran out of time" if ran.code is None else ""
        else:
            outcome, said = "not tried", f"pytest could not run its tests:\n{_end_of(ran)}"
        self._note(fault, outcome, said, ran)

    def _limit(self, copy: Copy, fault: Fault) -> float | None:
        """Seconds for the tests of ``fault``; None where one of them fails without it."""
        limit = LEAST
        for file in sorted({test.partition("::")[0] for test in fault.tests}):
            with self._looking[file]:
                seconds = self._seconds(copy, file)
            if seconds is None:
                return None
            limit += TIMES * seconds
        return limit

    def _seconds(self, copy: Copy, file: str) -> float | None:
        """Seconds of the chosen tests of one file without a fault; None where one fails."""
        all_chosen = {test for fault in self.faults for test in fault.tests}
        tests = sorted(test for test in all_chosen if test.partition("::")[0] == file)
        tests = [file] if file in tests else tests
        key = self._key([file], Fault(id=file, meaning="", place="", tests=tests))
        if key not in self._kept:
            ran = copy.run(tests, limit=LIMIT)
            outcome = "passed" if ran.code == PASSED else "failed"
            self._write({"outcome": outcome, "seconds": ran.seconds, "tests": tests, "key": key})
            if ran.code != PASSED:
                print(f"without any fault {file} fails:\n{_end_of(ran)}", flush=True)
        row = self._kept[key]
        return row["seconds"] if row["outcome"] == "passed" else None

    def _note(self, fault: Fault, outcome: str, said: str, ran: Ran | None = None) -> None:
        seconds, cpu_seconds = (ran.seconds, ran.cpu_seconds) if ran else (0.0, 0.0)
        self.outcomes[fault.id] = outcome
        row = {
            "id": fault.id,
            "outcome": outcome,
            "seconds": round(seconds, 1),
            "cpu_seconds": round(cpu_seconds, 1),
            "said": said,
            "commit": self.tree.commit,
            "list": fault.list_name,
            "fault": fault.digest,
            "source": self.tree.mark(fault.file),
            "key": self._key(fault.tests, fault),
        }
        self._write(row)
        print(f"{outcome:10} {seconds:6.1f} s  {fault.id}" + (f": {said}" if said else ""))
        sys.stdout.flush()

    def _write(self, row: dict[str, Any]) -> None:
        with self._writing:
            self._kept[row["key"]] = row
            with self.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            if self.record is not None and "id" in row:
                self.record.put(row)
                self.record.write()


def _end_of(ran: Ran) -> str:
    return "\n".join(ran.output.splitlines()[-15:]) + ("" if ran.code is not None else "\n(no end)")


def main(arguments: list[str] | None = None, root: Path | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__)
    parser.add_argument("--only", nargs="+", default=[""], help="ids, or what they begin with")
    parser.add_argument("--left", action="store_true", help="only what the record lacks")
    parser.add_argument("--jobs", type=int, default=1, help="copies of the tree at a time")
    parser.add_argument("--output", type=Path, default=None, help="outcomes, JSON Lines")
    parser.add_argument("--out", type=Path, default=None, help="folder of the record to write")
    parser.add_argument("--check", action="store_true", help="read the lists, run no test")
    given = parser.parse_args(arguments)
    root = root or Path(__file__).parents[2]
    try:
        every = read_lists(root / LISTS)
        stale = [error for fault in every if (error := _error_of(fault, root))]
        if stale:
            raise ListError("\n".join(stale))
        command = shlex.join(["python", "-m", "tools.mutants", *(arguments or sys.argv[1:])])
        record = Record(given.out or root / RECORD, every, root, command)
        left = record.left() if given.left else every
        faults = [fault for fault in left if fault.id.startswith(tuple(given.only))]
        if not faults and not given.left:
            raise ListError(f"no fault begins with {given.only}")
        if given.check:
            print(f"{len(faults)} faults can be planted")
            for fault in record.left():
                print(f"{record.folder}: {record.state(fault)}: {fault.id}")
            return 0
        trial = Trial(
            root,
            faults,
            output=given.output or root / "build" / "mutants.jsonl",
            jobs=given.jobs,
            record=record if given.out else None,
        )
        trial.run()
    except ListError as error:
        print(error, file=sys.stderr)
        return 2
    counted = Counter(trial.outcomes.values())
    for fault in faults:
        if trial.outcomes[fault.id] in BAD:
            print(f"{trial.outcomes[fault.id]}: {fault.id} ({fault.place}): {fault.meaning}")
        elif fault.equivalent:
            print(f"equivalent: {fault.id}: {fault.equivalent}")
    print(f"{len(faults)} faults: " + ", ".join(f"{n} {kind}" for kind, n in counted.items()))
    return int(any(counted[kind] for kind in BAD))


def _error_of(fault: Fault, root: Path) -> str | None:
    try:
        fault.planted(root)
    except ListError as error:
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(main())

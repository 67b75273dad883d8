"""The files of a tiny run of each domain, and the command line on copies of them."""

import hashlib
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tools.faults.inputs import data, models, recipes, run_folders, words
from tools.faults.inputs.cases import Case
from tools.faults.processes import in_process
from tools.faults.trials import Row

SECONDS = 60.0
"""Time that an input may take."""

KINDS: dict[str, Callable[[random.Random], list[Case]]] = {
    "command line": words.cases,
    "recipe": recipes.cases,
    "data": data.cases,
    "model": models.cases,
    "run folder": run_folders.cases,
}
OURS = ("adrpo: error: ", "adrpo: note: ")
BUG = "please report"
"""In the line of an error that nothing expected."""
KEPT = "adrpo-traceback"
"""Beginning of the name of a file that is left behind for a report of a bug."""


class InputBench:
    """A folder of material for each domain, and trials of malformed inputs on copies of it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder / "inputs"
        self.folder.mkdir()
        self.random = random.Random(f"{seed} inputs")

    def inputs(self, count: int) -> Iterator[Row]:
        """The rows of ``count`` inputs, of each kind in its share and at least one; 0 takes all."""
        for case in self.drawn(count):
            started = time.monotonic()
            outcome = self._outcome(case)
            yield {
                "domain": "inputs",
                "trial": case.kind,
                "what": f"{case.domain}: {case.what}",
                **outcome,
                "seconds": round(time.monotonic() - started, 2),
            }

    def drawn(self, count: int) -> list[Case]:
        """The inputs of a seed."""
        found = {kind: make(self.random) for kind, make in KINDS.items()}
        total = sum(map(len, found.values()))
        if not count:
            return [case for cases in found.values() for case in cases]
        return [
            case
            for cases in found.values()
            for case in self.random.sample(
                cases, min(len(cases), max(1, round(count * len(cases) / total)))
            )
        ]

    def _material(self, domain: str) -> Path:
        """The files of ``domain``, made at the first call."""
        from tools.faults.inputs.material import MATERIAL

        place = self.folder / domain
        if not place.exists():
            place.mkdir()
            before = Path.cwd()
            os.chdir(place)
            try:
                MATERIAL[domain]()
            finally:
                os.chdir(before)
        return place

    def _outcome(self, case: Case) -> Row:
        place = self.folder / "place"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self._material(case.domain), place, symlinks=True)
        said = self.folder / "said"
        work = lambda: _command(case, place, said)  # noqa: E731
        end = in_process(work, self.folder / "answer.json", kill_after=SECONDS)
        if end.killed:
            return {"outcome": "hang", "detail": " ".join(case.arguments)[:300]}
        if end.traceback:
            last = end.traceback.strip().splitlines()[-1]
            return {"outcome": "traceback", "detail": last[:300]}
        code, before = end.result["code"], end.result["before"]
        out, err = ((said / name).read_text(errors="replace") for name in ("out", "err"))
        outcome = _judged(case, code, out, err)
        if outcome["outcome"] == "named" and (changed := _differences(before, _content(place))):
            return {"outcome": "left behind", "detail": f"{changed[:5]}; {outcome['detail']}"}
        return outcome


def _judged(case: Case, code: int, out: str, err: str) -> Row:
    """The outcome of a command by its exit code and what it said."""
    lines = [line for line in err.splitlines() if line.strip() and not line.startswith(OURS[1])]
    if "Traceback (most recent call last)" in out + err:
        return {"outcome": "traceback", "detail": lines[-1][:300]}
    if code == 0:
        outcome = "accepted" if case.valid else "not refused"
        return {"outcome": outcome, "detail": case.valid or out.strip()[-200:]}
    broken = [line.strip() for line in out.splitlines() if line.startswith("  BROKEN")]
    if code == 1 and case.arguments[0] == "doctor" and broken and not lines:
        lines = [" ".join(broken)]
    elif code != 2 or len(lines) != 1 or not lines[0].startswith(OURS[0]):
        return {"outcome": "not one line", "detail": f"exit code {code}: {lines[:6]}"[:600]}
    named = any(name in lines[0] for name in case.names) and BUG not in lines[0]
    return {"outcome": "named" if named else "not named", "detail": lines[0][:400]}


def _command(case: Case, place: Path, said: Path) -> dict[str, Any]:
    """The exit code of the command, and what the folder had before it."""
    from adrpo.cli import main

    os.chdir(place)
    case.spoil()
    before = _content(place)
    said.mkdir(exist_ok=True)
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(said / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        setattr(sys, f"std{name}", os.fdopen(number, "w", buffering=1, closefd=False))
    sys.argv = ["adrpo", *case.arguments]
    try:
        main()
        code: Any = 0
    except SystemExit as end:
        code = 0 if end.code is None else end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return {"code": code, "before": before}


def _content(folder: Path) -> dict[str, str]:
    """Name -> digest of each file, and of each folder that has none."""
    return {
        path.relative_to(folder).as_posix(): _digest(path)
        for path in sorted(folder.rglob("*"))
        if not path.name.startswith(KEPT) and "__pycache__" not in path.parts
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"


def _differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    names = sorted(before.keys() | after.keys())
    return [name for name in names if before.get(name) != after.get(name)]

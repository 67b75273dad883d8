"""Trials on the runs of one domain: kills, damage, a full disk; each gives a row."""

import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tools.faults.processes import End, counted, full_from, in_process, killed_at
from tools.faults.runs import OTHER, USES, Domain, content, differences

Row = dict[str, Any]
GOOD = ("same", "named", "harmless", "accepted")
"""Outcomes that are as they ought to be."""


def flip(path: Path, place: float) -> None:
    """One bit, ``place`` of the way into the file."""
    data = bytearray(path.read_bytes())
    if data:
        data[int(place * len(data))] ^= 1 << int(place * 1e6) % 8
    path.write_bytes(data)


def truncate(path: Path, place: float) -> None:
    """All after ``place`` of the way into the file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(place * len(data))])


DAMAGES: dict[str, Callable[[Path, float], None]] = {
    "flip": flip,
    "truncate": truncate,
    "empty": lambda path, _: path.write_bytes(b"") and None,
    "delete": lambda path, _: path.unlink(),
}


class Bench:
    """The undisturbed run of a domain, one that stopped in the middle, and trials on them."""

    def __init__(self, domain: Domain, folder: Path, seed: int) -> None:
        self.domain = domain
        self.folder = folder / domain.name
        self.folder.mkdir()
        self.material = folder
        domain.config(folder)
        self.random = random.Random(f"{seed} {domain.name}")
        self.whole = self.folder / "whole" / "run"
        started = time.monotonic()
        end = self._do(lambda: self._counting(self.whole))
        self.seconds = time.monotonic() - started
        if end.result is None:
            raise RuntimeError(f"{domain.name}: the undisturbed run ended: {end}")
        self.operations: list[str] = end.result
        self.expected = content(self.whole)
        self.uses: dict[str, list[str]] = {}
        for name, use in USES.items():
            run = self._copy(self.whole)
            end = self._do(lambda use=use, run=run: use(run))
            if end.result is None:
                raise RuntimeError(f"{domain.name}: {name} of the undisturbed run ended: {end}")
            self.uses[name] = end.result
        self.stopped = self._stopped()

    def kills(self, count: int) -> Iterator[Row]:
        """Kill a run ``count`` times, at a disk operation and at a random moment in turn, and go
        on."""
        for number in range(count):
            run = self._fresh()
            if number % 2 == 0:
                at = self.random.randrange(1, len(self.operations) + 1)
                what = f"operation {at}: {self.operations[at - 1]}"
                self._do(lambda run=run, at=at: self._killed(run, at))
            else:
                after = self.random.uniform(0, self.seconds)
                what = f"after {after:.3f} s"
                work = lambda run=run: self.domain.train(self.material, run, resume=False)  # noqa: E731
                self._do(work, kill_after=after)
            yield self._row("kill", what, self._gone_on(run))

    def full_disks(self, count: int) -> Iterator[Row]:
        """Let the disk be full from a random operation on, and go on with room."""
        for _ in range(count):
            run = self._fresh()
            at = self.random.randrange(1, len(self.operations) + 1)
            size = self.random.choice((0, 100, 3000, 12000))
            end = self._do(lambda run=run, at=at, size=size: self._full(run, at, size))
            outcome = self._gone_on(run)
            if end.traceback:
                outcome = {"outcome": "traceback", "detail": end.traceback.splitlines()[-1]}
            elif end.error and ("\n" in end.error or str(run) not in end.error):
                outcome = {"outcome": "not one line", "detail": end.error}
            what = f"operation {at}: {self.operations[at - 1]}, {size} bytes"
            yield self._row("full disk", what, outcome)

    def damages(self, count: int) -> Iterator[Row]:
        """Damage a file of a stopped run and go on, or of a finished one and ask it; ``count``
        of all cases, drawn; 0 takes every one."""
        cases = [
            (use, name, kind)
            for use, base in {"resume": self.stopped, **dict.fromkeys(USES, self.whole)}.items()
            for name in _names(base)
            for kind in DAMAGES
        ]
        chosen = self.random.sample(cases, min(count, len(cases))) if count else cases
        for use, name, kind in chosen:
            run = self._copy(self.stopped if use == "resume" else self.whole)
            place = self.random.random()
            before = (run / name).read_bytes()
            DAMAGES[kind](run / name, place)
            if (run / name).exists() and (run / name).read_bytes() == before:
                continue
            if use == "resume":
                outcome = self._gone_on(run, damaged=name)
            else:
                outcome = self._asked(run, use, name)
            yield self._row(f"damage, {use}", f"{kind} {name}", outcome)

    def _row(self, trial: str, what: str, outcome: Row) -> Row:
        return {"domain": self.domain.name, "trial": trial, "what": what, **outcome}

    def _gone_on(self, run: Path, damaged: str = "") -> Row:
        """The outcome of going on with ``run``, or of beginning anew where there is none."""
        resume = (run / "config.yaml").is_file() or bool(damaged)
        if not resume:
            shutil.rmtree(run, ignore_errors=True)
        end = self._do(lambda: self.domain.train(self.material, run, resume=resume))
        # An older checkpoint that nothing reads stays damaged, and is named once it is wanted.
        unread = {damaged} if damaged.startswith("checkpoints/") else set[str]()
        return self._outcome(
            end,
            damaged,
            lambda: [n for n in differences(content(run), self.expected) if n not in unread],
        )

    def _asked(self, run: Path, use: str, damaged: str) -> Row:
        end = self._do(lambda: USES[use](run))
        expected = self.uses[use]
        return self._outcome(end, damaged, lambda: [use] if end.result != expected else [])

    def _outcome(self, end: End, damaged: str, compare: Callable[[], list[str]]) -> Row:
        if end.traceback or end.killed:
            last = end.traceback.strip().splitlines()[-1] if end.traceback else "killed"
            return {"outcome": "traceback", "detail": last[:300]}
        said = end.said + "".join(map(str, end.result or ()))
        named = damaged and any(part in said for part in (damaged, Path(damaged).name))
        if damaged and not named and end.error:
            named = any(part.name and part.name in end.error for part in Path(damaged).parents)
        if end.error:
            outcome = "named" if named and "\n" not in end.error else "not named"
            return {"outcome": outcome, "detail": end.error[:300]}
        found = compare()
        if not found:
            return {"outcome": "harmless" if damaged else "same", "detail": end.said[:300]}
        return {
            "outcome": "named" if named else "different",
            "detail": f"{', '.join(found[:5])}; said: {end.said[:200]}",
        }

    def _do(self, work: Callable[[], Any], *, kill_after: float | None = None) -> End:
        return in_process(work, self.folder / "answer.json", kill_after=kill_after)

    def _counting(self, run: Path) -> list[str]:
        with counted() as names:
            self.domain.train(self.material, run, resume=False)
        return names

    def _killed(self, run: Path, at: int) -> None:
        with killed_at(at):
            self.domain.train(self.material, run, resume=False)

    def _full(self, run: Path, at: int, size: int) -> None:
        with full_from(at, size):
            self.domain.train(self.material, run, resume=False)

    def _stopped(self) -> Path:
        """A run that was killed in the middle, between two checkpoints."""
        run = self.folder / "stopped" / "run"
        saved = [n for n, name in enumerate(self.operations, 1) if name == "replace"]
        self._do(lambda: self._killed(run, saved[len(saved) * 2 // 3]))
        return run

    def _fresh(self) -> Path:
        run = self.folder / "trial" / "run"
        shutil.rmtree(run.parent, ignore_errors=True)
        run.parent.mkdir()
        return run

    def _copy(self, base: Path) -> Path:
        run = self._fresh()
        shutil.copytree(base, run)
        shutil.copytree(self.whole, run.with_name(OTHER))
        return run


def _names(run: Path) -> list[str]:
    return [path.relative_to(run).as_posix() for path in sorted(run.rglob("*")) if path.is_file()]

"""The record of a run's files: what its report and its intervals rest on, by checksum.

It is the ``manifest.json`` of the run's folder. A file that is about to be replaced is forgotten
first and noted once it is there again, so that after a kill none is wrongly called damaged. Rows of
metrics.jsonl and evaluations.jsonl are known up to the last one that was noted; more may follow.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.runs.directory import RunDirectory
from adrpo.runs.durable import sync_file, write_durably
from adrpo.runs.inputs import COPY
from adrpo.runs.inputs import FILE as INPUTS
from adrpo.runs.manifest import FILE, SUMS, checksum, read_manifest

ROWS = "rows"
"""Key: name of a file of rows -> [bytes, checksum of so many]."""

OWN = "own"
"""Key: the checksum of the rest of the record."""

SETTINGS = "config.yaml"
SINGLE_FILE = "final.safetensors"
"""File beside ``final/`` with the same adapter, for programs that take one file."""

ENVIRONMENT = "environment.json"
ROOT = (SETTINGS, ENVIRONMENT, "facts.json", INPUTS, COPY, SINGLE_FILE)
"""Files beside the rows that are noted."""

PAIRED = ("samples/step-000000/values", "samples/prompts.json", "metrics.", "evaluations.")
"""Beginnings of the names of what the rows of later evaluations rest on."""

WAY_OUT = "restore it from a copy, or delete {record} to go on with the files as they are"


@dataclass(frozen=True)
class Fault:
    """A file of a run that is not as the run wrote it."""

    path: Path
    what: str
    """The fault, as the rest of a sentence that begins with the file's name."""

    def __str__(self) -> str:
        return f"{self.path} {self.what}"


def note(run: RunDirectory) -> None:
    """Take what the run's folder has and the record lacks into it, and all rows that there are."""
    record = _read(run) or {SUMS: {}, ROWS: {}}
    sums = record[SUMS]
    names = [*(run.path / name for name in ROOT), *sorted(run.samples.rglob("*"))]
    for path in (path for path in names if path.is_file()):
        name = path.relative_to(run.path).as_posix()
        if name not in sums and not path.name.startswith("."):
            if path.suffix != ".png":  # a lost picture is told, and no number rests on it
                sync_file(path)
            sums[name] = checksum(path)
    for path in (run.metrics, run.evaluations):
        if path.is_file():
            sync_file(path)
            record[ROWS][path.name] = _known(path.read_bytes())
    _write(run, record)


def forget(run: RunDirectory, *names: str) -> None:
    """Leave the files whose names begin with one of ``names`` out of the record."""
    record = _read(run)
    if record is not None:
        kept = {name: value for name, value in record[SUMS].items() if not name.startswith(names)}
        if kept != record[SUMS]:
            _write(run, record | {SUMS: kept})


def forget_evaluation(run: RunDirectory, step: int) -> None:
    """Forget what an evaluation at ``step`` writes."""
    shown = "samples/base" if step == 0 else "samples/final"
    forget(run, "samples/prompts.json", f"samples/step-{step:06d}/", shown)


def forget_after(run: RunDirectory, step: int) -> None:
    """Forget what a run that goes back to ``step`` makes again, before its rows are dropped."""
    record = _read(run)
    if record is None:
        return
    left_out = [SETTINGS, SINGLE_FILE]
    if any(row["step"] > step for row in run.read_evaluations()):
        left_out += ["samples/final", "samples/prompts.json"]
    if step < 0:
        left_out += ["samples/"]
    kept = {}
    for name, value in record[SUMS].items():
        later = name.startswith("samples/step-") and int(name.split("/")[1][5:]) > step
        if not later and not name.startswith(tuple(left_out)):
            kept[name] = value
    paths = [path for path in (run.metrics, run.evaluations) if path.is_file()]
    rows = {path.name: _known(run.rows_until(path, step)) for path in paths}
    _write(run, record | {SUMS: kept, ROWS: rows})


def faults(run: RunDirectory, looked_at: Callable[[str], bool] = lambda name: True) -> list[Fault]:
    """The files of ``run`` that are missing or are not as the run wrote them, of those that
    ``looked_at`` chooses by name; none where it kept no record.

    Raises AdrpoError where the record is damaged.
    """
    record = _read(run)
    while record is not None:
        found = [*_faults(run, record, looked_at)]
        # A run that trains meanwhile has written what it forgot before.
        again = _read(run) if found else record
        if again == record:
            return found
        record = again
    return []


def check_record(run: RunDirectory, *names: str, option: str = "") -> None:
    """Raise AdrpoError for the first file of ``run``, of those whose names begin with one of
    ``names``, that is missing or not as the run wrote it; ``option`` is what asked for it."""
    found = faults(run, lambda name: name.startswith(names))
    if found:
        way = WAY_OUT.format(record=run.path / FILE)
        raise AdrpoError(
            f"{option}{': ' if option else ''}{found[0].path}: expected the file as the run wrote "
            f"it; received one that {found[0].what}; {way}"
        )


def check_resumed(run: RunDirectory) -> None:
    """Raise AdrpoError where a file is missing or damaged that going on with ``run`` rests on; warn
    of samples that are only shown, and of a run without a record."""
    if _read(run) is None and run.has_begun():
        warnings.warn(
            f"--resume: {run.path} has no {FILE}, as of an earlier version: whether its files are "
            f"as it wrote them is not checked",
            AdrpoWarning,
            stacklevel=3,
        )
    check_record(run, *PAIRED, INPUTS, COPY, option="--resume")
    if (run.path / ENVIRONMENT).exists():  # the report, which comes last, reads it then
        check_record(run, ENVIRONMENT, option="--resume")
    lost = faults(run, lambda name: name.startswith("samples/"))
    if lost:
        more = f", and {len(lost) - 1} more files of its samples are not as it wrote them"
        warnings.warn(
            f"--resume: {lost[0]}{more if len(lost) > 1 else ''}; no number rests on what is only "
            f"shown: going on, and the report will say so",
            AdrpoWarning,
            stacklevel=3,
        )


def check_asked(run: RunDirectory) -> None:
    """Raise AdrpoError where the prompts that ``run`` kept are damaged, or the rows that tell the
    step of its weights, and warn where its settings were changed: a model is asked with them."""
    check_record(run, INPUTS, COPY, "metrics.", "evaluations.")
    for fault in faults(run, lambda name: name == SETTINGS):
        warnings.warn(
            f"{fault}; its settings are taken as they are there now", AdrpoWarning, stacklevel=3
        )


def _faults(
    run: RunDirectory, record: dict[str, Any], looked_at: Callable[[str], bool]
) -> Iterable[Fault]:
    for name, (size, expected) in record[ROWS].items():
        if not looked_at(name):
            continue
        path = run.path / name
        if not path.is_file():
            yield Fault(path, "is missing")
            continue
        found = path.read_bytes()
        if len(found) < size:
            yield Fault(path, f"has {len(found)} of at least {size} bytes")
        elif _known(found[:size])[1] != expected:
            yield Fault(path, "is not as the run wrote it")
    for name, expected in record[SUMS].items():
        path = run.path / name
        if looked_at(name) and not path.is_file():
            yield Fault(path, "is missing")
        elif looked_at(name) and checksum(path) != expected:
            yield Fault(path, "is not as the run wrote it")


def _known(content: bytes) -> list[Any]:
    return [len(content), hashlib.sha256(content).hexdigest()]


def _read(run: RunDirectory) -> dict[str, Any] | None:
    record = read_manifest(run.path)
    if record is None:
        return None
    own = record.pop(OWN, None)
    if own != _own(record) or not isinstance(record.get(ROWS), dict):
        raise AdrpoError(
            f"{run.path / FILE}: expected the checksums that the run wrote, received a file that "
            f"was changed; restore it, or delete it to go on with the run's files as they are"
        )
    return record


def _write(run: RunDirectory, record: dict[str, Any]) -> None:
    content = json.dumps(record | {OWN: _own(record)}, indent=1, sort_keys=True) + "\n"
    write_durably(run.path / FILE, content.encode())


def _own(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

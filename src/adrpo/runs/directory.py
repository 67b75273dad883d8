"""The run directory: the files of one run, the same for all domains.

config.yaml          the resolved configuration; training from it repeats the run
environment.json     versions, hardware, commit, dirty flag
metrics.jsonl        one JSON object a step
evaluations.jsonl    one JSON object an evaluation
facts.json           what the domain tells of itself (adrpo.runs.facts)
start/               the adapter that the run began with, where adapter.start_from names one
inputs.json          the prompts that it was given, by their content (adrpo.runs.inputs)
held_out.jsonl       the held-out ones, to be measured again
trackers.json        by what its trackers know the run (adrpo.runs.tracking)
tensorboard/  wandb/ files of trackers that write beside the rest
manifest.json        checksums of what its report and intervals rest on (adrpo.runs.record)
diverged.json        the step at which a run that diverged did so, and what was not finite
checkpoints/step-N/  complete state (adrpo.runs.checkpoints)
final/  samples/  report.html
final.safetensors    the adapter of a text-to-image model once more, as one file
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from adrpo.config.documents import read_mapping
from adrpo.errors import AdrpoError
from adrpo.metrics import File
from adrpo.runs.durable import write_durably
from adrpo.runs.environment import environment_record

Row = dict[str, Any]


class RunDirectory:
    """One run on disk. Get one from :meth:`create` (a new run) or :meth:`open` (an old one)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.environment = path / "environment.json"
        self.metrics = path / "metrics.jsonl"
        self.evaluations = path / "evaluations.jsonl"
        self.checkpoints = path / "checkpoints"
        self.final = path / "final"
        self.samples = path / "samples"
        self.report = path / "report.html"
        self.diverged = path / "diverged.json"
        self.listeners: list[Callable[[File, Row], None]] = []
        """Each hears of a row, "metrics" or "evaluations" before it, once that is written."""

    @classmethod
    def create(
        cls, path: str | Path, config_yaml: str, files: Mapping[str, bytes] | None = None
    ) -> Self:
        """Start a run in a folder that is new or empty.

        Args:
            path: the folder; parents are made.
            config_yaml: the resolved configuration, kept word for word.
            files: name -> content of what the run has beside it from its first moment.

        Raises:
            AdrpoError: the folder holds anything, or cannot be made. Nothing is written then.
        """
        run = cls(Path(path))
        record = json.dumps(environment_record(), indent=2, sort_keys=True) + "\n"
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            _refuse_taken(run.path)
            # Exclusive creation: of two processes that start here at once, one is refused.
            with run.environment.open("x", encoding="utf-8") as file:
                file.write(record)
        except OSError as error:
            raise AdrpoError(
                f"{run.path}: expected a folder that can be written for the run; {error.strerror}"
            ) from None
        for name, content in (files or {}).items():
            write_durably(run.path / name, content)
        # Last, because a folder is a run from the moment it has a configuration.
        write_durably(run.config, config_yaml.encode())
        return run

    @classmethod
    @contextmanager
    def whole(
        cls, path: str | Path, config_yaml: str, files: Mapping[str, bytes] | None = None
    ) -> Iterator[Self]:
        """``create``, for a run that can't be resumed: it is filled beside ``path`` and put there
        at the end of the block, and nothing is left of one that was not filled."""
        path = Path(path)
        if path.exists():
            _refuse_taken(path)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            yield cls.create(partial, config_yaml, files)
            # An empty folder gives way; one that something else has filled meanwhile does not.
            os.replace(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """An existing run; AdrpoError where ``path`` is none."""
        run = cls(Path(path))
        if not run.config.is_file():
            raise AdrpoError(
                f"{run.path}: expected a run directory, received a path without config.yaml; "
                "name the folder that training wrote"
            )
        return run

    def append_metrics(self, row: Row) -> None:
        """Add one step's row to metrics.jsonl; see :meth:`read_metrics`."""
        _append(self.metrics, row)
        self._tell("metrics", row)

    def append_evaluation(self, row: Row) -> None:
        """Add one evaluation's row to evaluations.jsonl."""
        _append(self.evaluations, row)
        self._tell("evaluations", row)

    def _tell(self, file: File, row: Row) -> None:
        for listener in self.listeners:
            listener(file, row)

    def read_metrics(self) -> list[Row]:
        """The rows of metrics.jsonl, in order; empty before the first step.

        A last line that a kill cut short is left out. A number that is not finite was written as
        null: JSON has no NaN.

        Raises:
            AdrpoError: any other line that is not a row.
        """
        return _read(self.metrics)

    def read_evaluations(self, split: str | None = None) -> list[Row]:
        """The rows of evaluations.jsonl, all or those of one ``split`` ("unseen", "seen"); as
        :meth:`read_metrics`."""
        rows = _read(self.evaluations)
        return rows if split is None else [row for row in rows if row["split"] == split]

    def rows(self) -> list[tuple[File, Row]]:
        """The rows of both files as they were written (:func:`in_order`)."""
        return in_order(self.read_metrics(), self.read_evaluations())

    def readable_rows(self, path: Path) -> tuple[list[Row], list[str]]:
        """The rows of metrics.jsonl or evaluations.jsonl that can be read, for one who looks on,
        and what is said of each line that can't."""
        rows, faults = [], []
        content = path.read_bytes() if path.exists() else b""
        *complete, _ = content.split(b"\n")
        for number, line in enumerate(complete, 1):
            try:
                rows.append(_row(line, f"{path}, line {number}"))
            except AdrpoError as error:
                faults.append(str(error))
        return rows, faults

    def record_divergence(self, step: int, reason: str) -> None:
        """Write diverged.json: at ``step`` something was not finite any more."""
        record = {"step": step, "reason": reason}
        write_durably(self.diverged, (json.dumps(record) + "\n").encode())

    def diverged_at(self) -> int | None:
        """The step at which the run diverged; None for one that did not. AdrpoError where its file
        names no step."""
        if not self.diverged.exists():
            return None
        step = _json_object(self.diverged).get("step")
        if not isinstance(step, int) or isinstance(step, bool):
            raise AdrpoError(
                f"{self.diverged}: expected the step at which the run diverged, received "
                f"{str(step)[:80]}; restore the file"
            )
        return step

    def read_config_yaml(self) -> str:
        """The text of config.yaml."""
        return _text(self.config)

    def read_settings(self) -> dict[str, Any]:
        """The mapping in config.yaml, as it stands there; AdrpoError where it holds none."""
        return read_mapping(self.config)

    def read_environment(self) -> dict[str, Any]:
        """The content of environment.json (``environment_record`` when the run began)."""
        return _json_object(self.environment)

    def has_begun(self) -> bool:
        """True where the run has something that took its time: an evaluation, a step, pairs."""
        made = (self.evaluations, self.metrics, *self.path.glob("pairs/*.jsonl"))
        return any(path.exists() for path in made)

    def discard(self, *, keep_folder: bool) -> None:
        """Remove all that is in the run's folder, and the folder itself unless it is to be kept."""
        for entry in self.path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        if not keep_folder:
            self.path.rmdir()

    def truncate_after(self, step: int) -> None:
        """Drop the rows of steps after ``step``, and a line cut short, before resuming there.

        Each file is replaced at once: a kill leaves it as it was or truncated.
        """
        for path in (self.metrics, self.evaluations):
            if path.exists():
                write_durably(path, self.rows_until(path, step))

    def rows_until(self, path: Path, step: int) -> bytes:
        """The content of ``path``, a file of rows, without those of steps after ``step``."""
        return "".join(_line(row) for row in _read(path) if row["step"] <= step).encode()


def in_order(
    metrics: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]]
) -> list[tuple[File, Any]]:
    """The rows of both files, each with its file, as they were written: an evaluation comes after
    its step."""
    made: list[tuple[File, Any]] = [("metrics", row) for row in metrics]
    measured: list[tuple[File, Any]] = [("evaluations", row) for row in evaluations]
    # Stable: of one step the row of metrics stays before those of evaluations.
    return sorted([*made, *measured], key=lambda item: item[1]["step"])


def _refuse_taken(folder: Path) -> None:
    taken = sorted(entry.name for entry in folder.iterdir())
    if taken:
        raise AdrpoError(
            f"{folder}: expected a new or empty folder for the run, received one that "
            f"holds {taken[0]!r} and {len(taken) - 1} more; choose another folder, or "
            "resume the run in it"
        )


def _append(path: Path, row: Row) -> None:
    if type(row.get("step")) is not int:
        raise ValueError(f"expected a row with an integer 'step', received {row.get('step')!r}")
    if path.exists() and not _ends_with_newline(path):
        _rewrite(path, _read(path))
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(row))


def _line(row: Row) -> str:
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
    return json.dumps(finite, allow_nan=False) + "\n"


def _rewrite(path: Path, rows: list[Row]) -> None:
    write_durably(path, "".join(map(_line, rows)).encode())


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    try:
        *complete, last = path.read_bytes().split(b"\n")
    except OSError as error:
        raise AdrpoError(
            f"{path}: expected a run's rows; {error.strerror}; restore the file"
        ) from None
    rows = [_row(line, f"{path}, line {number}") for number, line in enumerate(complete, 1)]
    # A line is written newline last, so that one without it was cut short, unless an editor
    # took the newline away; a cut object never parses.
    try:
        return [*rows, _row(last, "")]
    except AdrpoError:
        return rows


def _row(line: bytes, where: str) -> Row:
    try:
        row = json.loads(line)
    except (RecursionError, ValueError):
        row = None
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        raise AdrpoError(
            f"{where}: expected a JSON object with an integer 'step', received "
            f"{line[:60].decode(errors='replace')!r}; restore or remove the line"
        )
    return row


def _json_object(path: Path) -> dict[str, Any]:
    """The mapping that a file of JSON holds; AdrpoError where it holds none."""
    try:
        record = json.loads(_text(path))
    except (RecursionError, ValueError) as error:
        raise AdrpoError(
            f"{path}: expected JSON, received text that is not ({error}); restore the file"
        ) from None
    if not isinstance(record, dict):
        raise AdrpoError(f"{path}: expected a JSON object; restore the file")
    return record


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise AdrpoError(
            f"{path}: expected UTF-8 text, received byte 0x{error.object[error.start]:02x} at "
            f"offset {error.start}; restore the file"
        ) from None
    except OSError as error:
        raise AdrpoError(f"{path}: expected a file of the run; {error.strerror}") from None

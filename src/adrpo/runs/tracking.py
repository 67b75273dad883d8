"""A run's trackers: every row of its files reaches them, and the samples of its evaluations.

The run's files are what counts: a tracker gets what is written there, under the same names. A
tracker that can't start stops the run; one that fails later is told of once, and training goes on
without it. ``trackers.json`` keeps by what each knows its run, so that a resumed run goes on there.
"""

import json
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from adrpo.config.secrets import redacted
from adrpo.config.shared import Configuration
from adrpo.config.trackers import check_installed
from adrpo.errors import AdrpoError, AdrpoWarning, in_a_line
from adrpo.metrics import UNSEEN, File
from adrpo.runs.directory import Row, RunDirectory
from adrpo.runs.durable import write_durably
from adrpo.runs.processes import Processes
from adrpo.runs.resuming import flatten
from adrpo.runs.shown import shown_samples
from adrpo.runs.trackers import FORMS, Tracker

FILE = "trackers.json"
"""File of a run: tracker -> what was kept of it (:class:`Kept`)."""

TRAIN = "train"
"""Beginning of the names of metrics.jsonl's columns; an evaluation's begin with its split."""

PLACES = ("step", "split")
"""Columns that say what a row is of."""


@dataclass
class Kept:
    """The part of a tracker that is kept between two calls which train the same run."""

    identity: str | None = None
    sent: dict[str, int] = field(default_factory=dict)
    """TRAIN or a split -> the step of the last row that was sent."""
    failed: bool = False


@contextmanager
def tracked(run: RunDirectory, config: Configuration, processes: Processes) -> Iterator[None]:
    """A block in which the rows that ``run`` writes go to the trackers of ``config``, too.

    Raises AdrpoError, in all processes, where one does not start.
    """
    if not config.trackers:
        yield
        return
    tracking = None
    with processes.failing_together():
        if processes.is_main:
            tracking = Tracking(run, config)
    if tracking is None:
        yield
        return
    run.listeners.append(tracking.hear)
    try:
        yield
    except BaseException:
        tracking.finish(failed=True)
        raise
    finally:
        run.listeners.remove(tracking.hear)
    tracking.finish(failed=False)


class Tracking:
    """The trackers of a run, started.

    Rows that a tracker lacks, as of the steps before it was named, are sent at once. A step that
    is made again after a kill is not sent again: a resumed run makes the same.

    Args:
        run: what is tracked.
        config: its configuration.

    Raises:
        AdrpoError: a tracker that does not start; those before it are ended then.
    """

    def __init__(self, run: RunDirectory, config: Configuration) -> None:
        self._run = run
        check_installed(config.trackers)
        self._kept = _read(run)
        self._trackers: dict[str, Tracker] = {}
        self._failed: list[Tracker] = []
        self._told: set[str] = set()
        self._started = False
        settings = _plain_settings(config)
        rows = run.rows()
        for place, section in enumerate(config.trackers):
            begun = section.name in self._kept
            kept = self._kept.setdefault(section.name, Kept())
            for file, row in rows if begun and not kept.failed else []:
                _mark(kept, _source(file, row), row["step"])
            try:
                form = FORMS.get(section.name, Tracker)
                tracker = form(section, run, kept.identity, settings)
                self._trackers[section.name] = tracker
                if not tracker.resumed:
                    if kept.sent:
                        _warn(f"{section.name} can't go on with a run: a new one gets all rows")
                    kept.sent = {}
            except Exception as error:
                self.finish(failed=True)
                raise AdrpoError(
                    f"trackers.{place}: expected {section.name} to start; received "
                    f"{redacted(in_a_line(error))}; mend the cause, or leave it out of trackers"
                ) from error
            kept.identity, kept.failed = tracker.identity, False
        self._started = True
        self._keep()
        for file, row in rows:
            self._send(file, row, latest=False)

    def hear(self, file: File, row: Row) -> None:
        """Send a ``row`` that was written into ``file``."""
        self._send(file, row, latest=True)

    def finish(self, *, failed: bool) -> None:
        """End the trackers' runs, also of those that failed before.

        What these hold open would be in the way of the next training of this process.
        """
        for tracker in self._failed:
            with suppress(Exception):  # told when it failed
                tracker.finish(failed=True)
        self._failed.clear()
        for name in list(self._trackers):
            tracker = self._trackers.pop(name)
            try:
                tracker.finish(failed=failed)
            except Exception as error:
                _warn(f"{name} did not end as it should ({redacted(in_a_line(error))})")
        if self._started:
            self._keep()

    def _send(self, file: File, row: Row, *, latest: bool) -> None:
        source, step = _source(file, row), row["step"]
        for name, tracker in list(self._trackers.items()):
            kept = self._kept[name]
            if step <= kept.sent.get(source, -1):
                continue
            try:
                tracker.log(_numbers(source, row), step)
                if source == UNSEEN:
                    self._show(tracker, step, latest=latest)
            except Exception as error:
                kept.failed = True
                self._failed.append(self._trackers.pop(name))
                self._keep()
                _warn(
                    f"{name} failed at step {step} ({redacted(in_a_line(error))}): training goes "
                    f"on without it, and --resume sends it the rows that it lacks"
                )
            else:
                _mark(kept, source, step)

    def _show(self, tracker: Tracker, step: int, *, latest: bool) -> None:
        shown = shown_samples(self._run, step, latest=latest)
        for kind in shown.kinds():
            if kind not in tracker.kinds and tracker.name not in self._told:
                self._told.add(tracker.name)
                _warn(f"{tracker.name} gets numbers only; {kind} are in {self._run.samples}")
        if shown.kinds():
            tracker.show(shown, step)

    def _keep(self) -> None:
        content = {name: asdict(kept) for name, kept in self._kept.items()}
        text = json.dumps(content, indent=1, sort_keys=True) + "\n"
        write_durably(self._run.path / FILE, text.encode())


def _source(file: File, row: Row) -> str:
    """The name under which rows are counted and their columns are sent."""
    return TRAIN if file == "metrics" else str(row["split"])


def _numbers(source: str, row: Row) -> dict[str, float]:
    """The finite numbers of ``row`` by their names, behind where they come from."""
    return {
        f"{source}/{name}": value
        for name, value in row.items()
        if name not in PLACES
        and isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    }


def _mark(kept: Kept, source: str, step: int) -> None:
    kept.sent[source] = max(step, kept.sent.get(source, -1))


def _plain_settings(config: Configuration) -> Mapping[str, Any]:
    """Dotted key -> number or text, with lists as JSON, and no secret among them."""
    settings = flatten(config.model_dump(mode="json"))
    return {key: _plain(value) for key, value in settings.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    return redacted(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _read(run: RunDirectory) -> dict[str, Kept]:
    path = run.path / FILE
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: _kept(**kept) for name, kept in found.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise AdrpoError(
            f"{path}: expected what the run's trackers know it by; received "
            f"{type(error).__name__}: {error}; delete the file to begin new runs of them"
        ) from None


def _kept(identity: Any = None, sent: Any = None, failed: Any = False) -> Kept:
    """The part of ``trackers.json`` on one tracker; TypeError for what is no such content."""
    steps = {} if sent is None else dict(sent)
    if not isinstance(identity, str | None) or any(
        type(step) is not int for step in steps.values()
    ):
        raise TypeError("expected a text as identity and whole numbers as sent")
    return Kept(identity, steps, bool(failed))


def _warn(text: str) -> None:
    warnings.warn(f"trackers: {text}", AdrpoWarning, stacklevel=2)

"""The trackers of accelerate, and what each needs beyond it: to go on with a run, and samples.

accelerate's classes start a tracker and send numbers. Which run of a tracker is gone on with, and
how pictures, completions and clips reach it, every library says in its own way.
"""

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from adrpo.config.secrets import resolved
from adrpo.config.trackers import TrackerSection
from adrpo.runs.directory import RunDirectory
from adrpo.runs.shown import CLIPS, COMPLETIONS, PICTURES, Shown

SAMPLES = "samples"
"""Beginning of the names of pictures and clips."""


class Tracker:
    """A tracker of accelerate that has started; numbers only, and every call a run of its own.

    Args:
        section: its settings.
        run: what is tracked.
        identity: by which the tracker knows the run that it began for ``run``; None at first.
        settings: the configuration, dotted keys, with which the tracker's run begins.

    Attributes:
        identity: that of the tracker's run, to be kept for the next call; None where it has none.
        resumed: whether the tracker went on with a run.
    """

    kinds: ClassVar[frozenset[str]] = frozenset()
    """Kinds of samples that it takes."""

    goes_on: ClassVar[bool] = False
    """True where it goes on with a run by ``identity``."""

    def __init__(
        self,
        section: TrackerSection,
        run: RunDirectory,
        identity: str | None,
        settings: Mapping[str, Any],
    ) -> None:
        self.name = section.name
        self.run = run
        self.settings = settings
        self.resumed = identity is not None and self.goes_on
        self.identity = identity if self.goes_on else None
        options = resolved(dict(section.options), f"trackers: {self.name}: options")
        self._tracker = self._start(section.project, options)
        if not self.resumed:
            self._configure()

    def _start(self, project: str, options: dict[str, Any]) -> Any:
        """accelerate's tracker, started."""
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState()  # without it accelerate's own log of what a tracker did fails
        form = LOGGER_TYPE_TO_CLASS[self.name]
        if form.requires_logging_directory:
            options.setdefault("logging_dir", ".")
        tracker = form(project, **options)
        tracker.start()
        return tracker

    def _configure(self) -> None:
        """Send the configuration."""
        self._tracker.store_init_configuration(dict(self.settings))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send numbers."""
        self._tracker.log(dict(values), step=step)

    def show(self, shown: Shown, step: int) -> None:
        """Send the samples of the kinds that it takes."""

    def finish(self, *, failed: bool) -> None:
        """End the tracker's run, which ``failed`` where training did."""
        del failed
        self._tracker.finish()


class TensorBoard(Tracker):
    """Event files in the run's own folder, or in that of ``logging_dir``."""

    kinds = frozenset({PICTURES, COMPLETIONS, CLIPS})
    goes_on = True

    def _start(self, project: str, options: dict[str, Any]) -> Any:
        del project  # a folder is no project
        name = self.run.path.name if "logging_dir" in options else "tensorboard"
        options.setdefault("logging_dir", str(self.run.path))
        tracker = super()._start(name, options)
        self.identity = "folder"
        return tracker

    def _configure(self) -> None:
        # accelerate's way is a second folder of events, which TensorBoard takes for another run.
        rows = [{"key": key, "value": value} for key, value in self.settings.items()]
        self._text("config", rows, 0)

    def show(self, shown: Shown, step: int) -> None:
        writer = self._tracker.tracker
        for place, (_, file) in enumerate(shown.pictures):
            pixels = np.asarray(_picture(file))[None]
            found = {f"{SAMPLES}/{place:02d}": pixels}
            self._tracker.log_images(found, step=step, dataformats="NHWC")
        if shown.completions:
            self._text("completions", shown.completions, step)
        for place, (_, file) in enumerate(shown.clips):
            sound, rate = _waveform(file)
            writer.add_audio(f"clips/{place:02d}", sound[None], step, sample_rate=rate)
        writer.flush()

    def _text(self, name: str, rows: list[dict[str, Any]], step: int) -> None:
        self._tracker.log({name: _table(rows)}, step=step)


class WandB(Tracker):
    """A run of Weights & Biases, whose files lie in the run's own folder."""

    kinds = frozenset({PICTURES, COMPLETIONS, CLIPS})
    goes_on = True

    def _start(self, project: str, options: dict[str, Any]) -> Any:
        self.identity = str(options.get("id") or self.identity or uuid.uuid4().hex[:12])
        own = {"dir": str(self.run.path), "name": self.run.path.name, "resume": "allow"}
        tracker = super()._start(project, own | options | {"id": self.identity})
        # W&B's own count goes up only: a row behind it, as of an evaluation that a kill cut short
        # and that is made again, would be dropped.
        tracker.tracker.define_metric("step", hidden=True)
        tracker.tracker.define_metric("*", step_metric="step")
        return tracker

    def log(self, values: Mapping[str, Any], step: int) -> None:
        ahead = step >= self._tracker.tracker.step
        self._tracker.log({**values, "step": step}, step=step if ahead else None)

    def show(self, shown: Shown, step: int) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        found: dict[str, Any] = {}
        if shown.pictures:
            found[SAMPLES] = [wandb.Image(str(file), caption=text) for text, file in shown.pictures]
        if shown.clips:
            found["clips"] = [wandb.Audio(str(file), caption=text) for text, file in shown.clips]
        if shown.completions:
            columns = list(shown.completions[0])
            data = [[row.get(name) for name in columns] for row in shown.completions]
            found["completions"] = wandb.Table(columns=columns, data=data)
        self.log(found, step)

    def finish(self, *, failed: bool) -> None:
        self._tracker.tracker.finish(exit_code=int(failed))


class MLflow(Tracker):
    """A run of MLflow; ``tracking_uri`` among the options is where, else MLFLOW_TRACKING_URI."""

    kinds = frozenset({PICTURES, COMPLETIONS, CLIPS})
    goes_on = True

    def _start(self, project: str, options: dict[str, Any]) -> Any:
        import mlflow  # pyright: ignore[reportMissingImports]

        if (uri := options.pop("tracking_uri", None)) is not None:
            mlflow.set_tracking_uri(uri)
        options = {"run_name": self.run.path.name, "run_id": self.identity} | options
        tracker = super()._start(project, options)
        self.identity = tracker.tracker.info.run_id
        return tracker

    def show(self, shown: Shown, step: int) -> None:
        import mlflow  # pyright: ignore[reportMissingImports]

        for place, (_, file) in enumerate(shown.pictures):
            mlflow.log_image(_picture(file), key=f"{SAMPLES}-{place:02d}", step=step)
        for file in shown.files:
            self._tracker.log_artifact(str(file), artifact_path=f"completions/step-{step:06d}")
        for _, file in shown.clips:
            self._tracker.log_artifact(str(file), artifact_path="clips")

    def finish(self, *, failed: bool) -> None:
        import mlflow  # pyright: ignore[reportMissingImports]

        mlflow.end_run(status="FAILED" if failed else "FINISHED")


class Trackio(Tracker):
    """A run of Trackio, which it knows by name."""

    kinds = frozenset({PICTURES, COMPLETIONS, CLIPS})
    goes_on = True

    def _start(self, project: str, options: dict[str, Any]) -> Any:
        # A name that another run of the project has would be gone on with.
        own = f"{self.run.path.name}-{uuid.uuid4().hex[:6]}"
        self.identity = str(options.get("name") or self.identity or own)
        # Every start writes the configuration anew, and what is updated later is in no file.
        own_options = {"resume": "allow", "config": dict(self.settings)}
        return super()._start(project, own_options | options | {"name": self.identity})

    def _configure(self) -> None:
        pass

    def show(self, shown: Shown, step: int) -> None:
        import trackio  # pyright: ignore[reportMissingImports]

        found: dict[str, Any] = {}
        for place, (text, file) in enumerate(shown.pictures):
            found[f"{SAMPLES}/{place:02d}"] = trackio.Image(str(file), caption=text)
        for place, (text, file) in enumerate(shown.clips):
            sound, rate = _waveform(file)
            whole = (sound * np.iinfo(np.int16).max).astype(np.int16)  # it says so of others
            found[f"clips/{place:02d}"] = trackio.Audio(whole, caption=text, sample_rate=rate)
        if shown.completions:
            found["completions"] = trackio.Table(data=shown.completions)  # pyright: ignore
        self._tracker.log(found, step=step)


FORMS: dict[str, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
    "trackio": Trackio,
}
"""Trackers that take more than numbers; any other is a :class:`Tracker`."""


def _picture(file: Path) -> Image.Image:
    with Image.open(file) as picture:
        return picture.convert("RGB")


def _waveform(file: Path) -> tuple[np.ndarray, int]:
    """Samples [time] in [-1, 1] of the first channel, and how many there are a second."""
    import soundfile

    sound, rate = soundfile.read(str(file), dtype="float32", always_2d=True)
    return sound[:, 0], rate


def _table(rows: list[dict[str, Any]]) -> str:
    """``rows`` in Markdown, in which a line is a row and a bar ends a cell."""
    columns = list(rows[0])
    lines = [
        columns,
        ["---"] * len(columns),
        *([row.get(name) for name in columns] for row in rows),
    ]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("\n", "<br>")

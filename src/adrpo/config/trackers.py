"""The section ``trackers``: where a run's rows go beside its own files."""

import importlib.util
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue

from adrpo.config.fields import Section, Text, refusal
from adrpo.config.secrets import refuse_plain_secrets
from adrpo.errors import AdrpoError


class Library(NamedTuple):
    """The library behind a tracker: the module that is imported, and what pip installs."""

    module: str
    distribution: str


LIBRARIES = {
    "tensorboard": Library("tensorboard", "tensorboard"),
    "wandb": Library("wandb", "wandb"),
    "mlflow": Library("mlflow", "mlflow"),
    "trackio": Library("trackio", "trackio"),
    "aim": Library("aim", "aim"),
    "clearml": Library("clearml", "clearml"),
    "comet_ml": Library("comet_ml", "comet_ml"),
    "dvclive": Library("dvclive", "dvclive"),
    "swanlab": Library("swanlab", "swanlab"),
}
"""The trackers of accelerate, by accelerate's names."""


def _known(value: str) -> str:
    if value not in LIBRARIES:
        raise refusal(f"expected one of {', '.join(LIBRARIES)}; received {value!r}")
    return value


class TrackerSection(Section):
    """A place that a run's rows and samples are sent to while it goes on (docs/use/trackers.md)."""

    name: Annotated[Text, AfterValidator(_known)] = Field(
        description="tensorboard, wandb, mlflow, trackio, aim, clearml, comet_ml, dvclive or "
        "swanlab; a tracker without options is its name alone: trackers=[tensorboard]."
    )
    project: Text = Field(
        default="adrpo", description="Project, or experiment, that the tracker puts the run into."
    )
    options: Annotated[dict[str, JsonValue], AfterValidator(refuse_plain_secrets)] = Field(
        default_factory=dict,
        description="Keyword arguments of the tracker's own start, as wandb.init has them; "
        "env:NAME stands for an environment variable.",
    )


def _of_a_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _of_one(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _each_once(value: tuple[TrackerSection, ...]) -> tuple[TrackerSection, ...]:
    names = [tracker.name for tracker in value]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise refusal(f"expected each tracker once, received {twice!r} twice")
    return value


Trackers = Annotated[
    tuple[Annotated[TrackerSection, BeforeValidator(_of_a_name)], ...],
    BeforeValidator(_of_one),
    AfterValidator(_each_once),
]
"""Trackers of a run, each once; a text is the name of one with its defaults."""


def check_installed(trackers: Sequence[TrackerSection]) -> None:
    """Raise AdrpoError where the library of one of ``trackers`` is not installed."""
    for place, tracker in enumerate(trackers):
        library = LIBRARIES[tracker.name]
        if importlib.util.find_spec(library.module) is None:
            raise AdrpoError(
                f"trackers.{place}: expected an installed {library.module} for {tracker.name}, "
                f"received none: pip install {library.distribution}, or leave it out of trackers"
            )

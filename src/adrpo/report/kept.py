"""Sentences on a run beside its numbers: kept weights, another reward, a beginning, damage, and the
judges that the reward asks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adrpo.errors import AdrpoError
from adrpo.metrics import UNSEEN, describe, trained_judges
from adrpo.report.numbers import fixed
from adrpo.runs.directory import RunDirectory
from adrpo.runs.inputs import own_reward
from adrpo.runs.kept_weights import kept_step
from adrpo.runs.manifest import SUMS, read_manifest
from adrpo.runs.record import faults
from adrpo.runs.start import start_sentence


@dataclass(frozen=True)
class Kept:
    """The steps of a run that early stopping ended, or that ended below its best evaluation."""

    metric: str
    """The metric that was watched."""
    step: int
    """The step whose weights ``final/`` has; 0 for the untrained ones."""
    last: int
    """The step of the last evaluation."""

    @property
    def sentence(self) -> str:
        """The step that ``final/`` has and why, in one sentence."""
        name = describe(self.metric).in_sentence
        last = f"the run went on to step {fixed(self.last, 0)}"
        if self.step == 0:
            return f"final/ has the untrained weights: {name} was best before training; {last}."
        return (
            f"final/ has the weights of step {fixed(self.step, 0)}, where {name} was best; {last}."
        )


def kept_weights(
    run: RunDirectory, config: Mapping[str, Any], final: Path | None = None
) -> Kept | None:
    """The weights that early stopping kept of ``run``, whose settings are ``config``.

    ``final`` is the folder of the weights where it has not taken its name ``final/`` yet.

    None without early stopping, before ``final/`` is written, and where the last evaluation is the
    one that was kept.
    """
    evaluation = config.get("evaluation")
    metric = evaluation.get("early_stopping") if isinstance(evaluation, Mapping) else None
    rows = run.read_evaluations(UNSEEN)
    if metric is None or not rows or not (final or run.final).is_dir():
        return None
    step, last = kept_step(run, str(metric)), rows[-1]["step"]
    return None if step is None or step == last else Kept(str(metric), step, last)


def own_reward_lines(run: RunDirectory) -> list[str]:
    """A sentence on the reward of a run where its configuration does not have it."""
    name = own_reward(run)
    if name is None:
        return []
    return [f"The reward is the callable {name}, which Python gave in the place of the recipe's."]


def start_notices(config: Mapping[str, Any]) -> list[str]:
    """A sentence on the adapter that a run with the settings ``config`` began with, and its
    reference; none of a new adapter."""
    adapter = config.get("adapter")
    if not isinstance(adapter, Mapping) or not adapter.get("start_from"):
        return []
    return [f"{start_sentence(str(adapter['start_from']), str(adapter.get('reference')))}."]


def judges_trained_on(run: RunDirectory) -> tuple[str, ...]:
    """The judges that ``run`` is trained on: its reward asks them itself."""
    own = own_reward(run)
    if own is not None:
        return trained_judges([own])
    config = run.read_settings()
    return trained_judges(str(term.get("name")) for term in config.get("reward") or ())


def damage_lines(run: RunDirectory) -> list[str]:
    """A sentence on each file of a run that is missing or no longer what the run wrote; of the
    weights, whose checksums take long, on those that are missing."""
    told = [
        f"{fault.path.relative_to(run.path)} {fault.what}: what is told from it may be wrong."
        for fault in faults(run)
    ]
    return [*told, *_missing_weights(run)]


def _missing_weights(run: RunDirectory) -> list[str]:
    try:
        manifest = read_manifest(run.final)
    except AdrpoError as error:
        return [f"{error}."]
    return [
        f"final/{name} is missing: adrpo sample and evaluate refuse these weights."
        for name in (manifest or {SUMS: {}})[SUMS]
        if not (run.final / name).is_file()
    ]

"""A playground: one prompt, drawn by a base and by runs of it from the same random numbers.

What only a domain knows is its :class:`Player`; a page that shows a playground knows none of it.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, runtime_checkable

from adrpo.data.base import Prompt
from adrpo.data.identity import digest
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.evaluation.door import Door
from adrpo.evaluation.targets import Target
from adrpo.metrics import TOTAL
from adrpo.rewards.base import RewardTerm
from adrpo.rewards.scoring import score
from adrpo.runs.checkpoints import steps_with_weights, weights_of_step
from adrpo.runs.inputs import own_reward

STRONGEST = 1.5
"""Greatest strength of an adapter that a playground offers."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A prompt, and how it is drawn.

    ``strength`` multiplies what training added to the weights: 0 takes it away, 1 leaves it as it
    is. Of an adapter that began with another (``adapter.start_from``) it multiplies both.
    ``steps`` are the sampler's, None for the evaluation's. ``clip`` is a file of sound that the
    prompt is about, for a model that hears.
    """

    prompt: str
    seed: int = 0
    strength: float = 1.0
    steps: int | None = None
    clip: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Played:
    """A sample (a picture, None where its pixels are no numbers; or a text), its scores by their
    names, NaN where there is none, and why there is none."""

    sample: Any
    scores: Mapping[str, float]
    errors: Sequence[str] = ()


class Player(Protocol):
    """A model of a domain that draws for a prompt, as it was and as it was trained."""

    prompts: Sequence[Prompt]
    """Held-out prompts, to choose from."""
    steps: int | None
    """Steps of the sampler in evaluations; None where a model has none."""
    hears: bool
    """True where a prompt may have a clip."""

    def base(self, asked: Asked) -> Played:
        """A sample of the model that training began with; ``asked.strength`` does nothing."""
        ...

    def tuned(self, weights: Path, asked: Asked) -> Played:
        """A sample of the model with the ``weights`` of a run."""
        ...


@runtime_checkable
class Plays(Protocol):
    """A door whose models can be played with, beside :class:`~adrpo.evaluation.door.Door`."""

    def player(
        self, config: Any, held_out: Sequence[Prompt] | None = None
    ) -> AbstractContextManager[Player]:
        """The model of ``config``, loaded for as long as the block lasts; ``held_out`` are the
        prompts that its run kept."""
        ...


@dataclass(frozen=True)
class PlayedRun:
    """A run in a playground: its name, its folder, and the steps whose weights it has."""

    name: str
    folder: Path
    steps: tuple[int, ...]
    final: Path | None
    """The folder of what training kept, which is of the last of ``steps``; None before its end."""
    player: Player = field(repr=False)

    def step_at(self, place: int) -> int:
        """The last of the steps that is not after ``place``, or the first."""
        return max((step for step in self.steps if step <= place), default=self.steps[0])

    def weights(self, step: int) -> Path:
        """The folder with the weights of ``step``."""
        if self.final is not None and step == self.steps[-1]:
            return self.final
        return weights_of_step(self.folder, step)


@dataclass(frozen=True)
class Panel:
    """A sample under its title; ``played`` is None where the model could not draw, and ``error``
    says why."""

    title: str
    played: Played | None
    error: str = ""


class Playground:
    """The base of ``runs`` and they themselves, side by side; get one from
    :func:`open_playground`."""

    def __init__(
        self, runs: Sequence[PlayedRun], samples: str, notices: Sequence[str] = ()
    ) -> None:
        self.runs = list(runs)
        self.samples = samples
        """The word for what is drawn."""
        self.notices = list(notices)
        """Sentences on what a player should know."""
        self._lock = Lock()

    @property
    def bases(self) -> list[tuple[str, Player]]:
        """Title and model of each base: one, unless the runs are of several models."""
        players = list({id(run.player): run.player for run in self.runs}.values())
        if len(players) == 1:
            return [("Base", players[0])]
        first = {id(run.player): run.name for run in reversed(self.runs)}
        return [(f"Base of {first[id(player)]}", player) for player in players]

    @property
    def titles(self) -> list[str]:
        """Titles of the panels, without the steps."""
        return [*(title for title, _ in self.bases), *(run.name for run in self.runs)]

    @property
    def places(self) -> list[int]:
        """The steps that any of the runs has weights of, in their order."""
        return sorted({step for run in self.runs for step in run.steps})

    @property
    def prompts(self) -> list[str]:
        """Held-out prompts of the runs, in words, each once."""
        found = (prompt.text for run in self.runs for prompt in run.player.prompts)
        return list(dict.fromkeys(found))

    @property
    def steps(self) -> int | None:
        """Steps of the sampler in the first run's evaluations; None where there are none."""
        return self.runs[0].player.steps

    @property
    def hears(self) -> bool:
        """True where a prompt may have a clip."""
        return any(run.player.hears for run in self.runs)

    def play(self, asked: Asked, place: int | None = None) -> list[Panel]:
        """A panel for each of ``titles``.

        Args:
            asked: what is drawn, from the same random numbers in every panel.
            place: the step of training; each run takes the last of its own that is not after it.
                None: the last.

        Raises:
            AdrpoError: no prompt, or a strength below 0.
        """
        if not asked.prompt.strip():
            raise AdrpoError("play: expected a prompt, received an empty one; write one")
        if not 0 <= asked.strength <= STRONGEST:
            raise AdrpoError(
                f"play: expected a strength from 0 to {STRONGEST}, received {asked.strength}"
            )
        place = self.places[-1] if place is None else place
        with self._lock:  # one model, which wears one run's weights at a time
            panels = [_panel(title, player.base, asked) for title, player in self.bases]
            for run in self.runs:
                step = run.step_at(place)
                panels.append(_panel(f"{run.name}, step {step}", _tuned(run, step), asked))
        return panels


def _tuned(run: PlayedRun, step: int) -> Callable[[Asked], Played]:
    return lambda asked: run.player.tuned(run.weights(step), asked)


def _panel(title: str, draw: Callable[[Asked], Played], asked: Asked) -> Panel:
    try:
        return Panel(title, draw(asked))
    except AdrpoError as error:
        return Panel(title, None, str(error))


@contextmanager
def open_playground(names: Sequence[str], door_of: Callable[[Any], Door]) -> Iterator[Playground]:
    """The playground of the runs in the folders ``names``, with their models loaded for as long as
    the block lasts. Runs with the same model, adapter, rewards and prompts share one.

    ``door_of`` finds the door of a configuration.

    Raises AdrpoError where one is no run, has no weights yet, is of another domain than the first,
    or of one whose models can't be played with.
    """
    targets = [_target(name, door_of) for name in names]
    domains = {target.config.domain for target in targets}
    if len(domains) > 1:
        raise AdrpoError(
            f"play: expected runs of one domain, received {' and '.join(sorted(domains))}; play "
            f"with them apart"
        )
    door = targets[0].door
    if not isinstance(door, Plays):
        raise AdrpoError(
            f"play: expected a domain whose models can be played with, received "
            f"{targets[0].config.domain}"
        )
    players: dict[str, Player] = {}
    with ExitStack() as stack:
        runs = []
        for target, title in zip(targets, _titles(names), strict=True):
            key = _shared(target)
            if key not in players:
                players[key] = stack.enter_context(door.player(target.config, target.held_out))
            steps, final = _steps(target)
            runs.append(PlayedRun(title, Path(target.name), steps, final, players[key]))
        yield Playground(runs, door.facts.samples, _notices(targets))


def _target(name: str, door_of: Callable[[Any], Door]) -> Target:
    """The run in the folder ``name`` with its last weights, finished or not."""
    folder = Path(name)
    if not (folder / "config.yaml").is_file():
        raise AdrpoError(
            f"play: expected the folder of a run, received {name}, which has no config.yaml"
        )
    kept = steps_with_weights(folder)
    unfinished = not (folder / "final").is_dir() and kept
    return Target.resolve(name, door_of, step=max(kept) if unfinished else None)


def _steps(target: Target) -> tuple[tuple[int, ...], Path | None]:
    """The steps whose weights a run has, and the folder of what training kept."""
    folder = Path(target.name)
    kept = {step for step in steps_with_weights(folder) if step > 0}
    final = folder / "final"
    if target.final == final:
        # Steps after the one that was kept are no part of what the run gave.
        return (*sorted(step for step in kept if step < target.step), target.step), final
    if not kept:
        raise AdrpoError(
            f"play: expected a run with trained weights, received {folder}, which kept the "
            f"untrained ones"
        )
    return tuple(sorted(kept)), None


def _shared(target: Target) -> str:
    """A text that is the same for runs whose models, adapters, rewards and prompts are."""
    apart = {"algorithm", "training", "checkpoint", "trackers", "description", "source"}
    settings = target.config.model_dump(mode="json", exclude=apart)
    return repr((settings, target.held_out))


def _notices(targets: Sequence[Target]) -> list[str]:
    """A sentence on each run whose configuration lacks the reward that it was trained by."""
    rewards = [(target, own_reward(target.run)) for target in targets if target.run is not None]
    return [
        f"{target.name} was trained by the callable {name}, which Python gave; the scores are "
        f"those of the reward in its config.yaml"
        for target, name in rewards
        if name is not None
    ]


def _titles(names: Sequence[str]) -> list[str]:
    """A name for each run: its folder's, or as much of the path as tells it from the others."""
    paths = [Path(name).resolve() for name in names]
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        titles = ["/".join(path.parts[-length:]) for path in paths]
        if len({*titles}) == len({*paths}):
            break
    return titles


def scores_of(
    reward: Sequence[RewardTerm], others: Sequence[RewardTerm], columns: Mapping[str, list[Any]]
) -> tuple[dict[str, float], list[str]]:
    """The scores of one sample, the total first, and the first error of each reward that raised.

    Args:
        reward: the terms that training is rewarded by.
        others: rewards that are only measured.
        columns: the arguments of a reward, each a list of one item.
    """
    scores: dict[str, float] = {}
    errors: list[str] = []
    for terms, total in ((reward, TOTAL), (others, "")):
        try:
            result = score(terms, **columns) if terms else None
        except AdrpoError as error:  # such as a column that a prompt of the user's own lacks
            errors.append(str(error))
            continue
        if result is None:
            continue
        if total:
            scores[total] = float(result.total[0])
        scores |= {name: float(values[0]) for name, values in result.by_term.items()}
        errors += result.errors.values()
    return scores, errors


def with_columns(prompt: Prompt, known: Sequence[Prompt], *, clip: Path | None = None) -> Prompt:
    """``prompt`` with the category and the columns of the one of ``known`` that says the same:
    rewards that need them have them then. A ``clip`` of the user's own goes before theirs.

    The first of several is taken; a warning names the columns in which they differ.
    """
    alike = [_joined(prompt, other, clip) for other in known if other.text == prompt.text]
    if not alike:
        return prompt
    first, *others = alike
    differ = {
        name
        for other in others
        for name in first.columns.keys() | other.columns.keys()
        if _content(first, name) != _content(other, name)
    }
    if differ:
        warnings.warn(
            f"prompt: {len(alike)} of the run's prompts say {prompt.text!r}, with other values in "
            f"{', '.join(sorted(differ))}; the first one's are taken",
            AdrpoWarning,
            stacklevel=2,
        )
    return first


def _content(prompt: Prompt, column: str) -> str:
    """A column known by its content: arrays and pictures have no one answer to ==."""
    return digest(Prompt("", columns={column: prompt.columns.get(column)}))


def _joined(prompt: Prompt, other: Prompt, clip: Path | None) -> Prompt:
    pair = (prompt.columns, other.columns) if clip is None else (other.columns, prompt.columns)
    return replace(prompt, category=other.category, columns={**pair[0], **pair[1]})


@contextmanager
def scaled_adapter(model: Any, strength: float, name: str = "default") -> Iterator[None]:
    """The adapter ``name`` of ``model`` at ``strength`` times its scale inside the block.

    What a LoRA layer adds to its output is strength * (alpha / rank) * B A x.
    """
    from peft.tuners.lora import LoraLayer

    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    before = [layer.scaling.get(name) for layer in layers]
    try:
        for layer, scale in zip(layers, before, strict=True):
            if scale is not None:
                layer.scaling[name] = scale * strength
        yield
    finally:
        for layer, scale in zip(layers, before, strict=True):
            if scale is not None:
                layer.scaling[name] = scale

"""The door of a domain: all that the commands ask of it.

A domain is a package with one module ``domain.py`` that has a ``DOOR``. Commands find the door by
the configuration's ``domain`` (adrpo/config/domains.py lists them) and ask it; none of them asks
which domain it is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from adrpo.data.base import Prompt
from adrpo.evaluation.evaluator import Evaluator
from adrpo.runs.facts import Facts
from adrpo.runs.findings import Findings
from adrpo.runs.trials import Trial


class Training(Protocol):
    """A training that a configuration asks for, ready to run."""

    def train(
        self,
        output_dir: str | Path,
        *,
        resume: bool = False,
        progress: bool = True,
        base: str | Path | None = None,
    ) -> Path:
        """Run the configured steps into ``output_dir`` and return its path.

        With ``resume`` the run that lies there goes on from its last checkpoint. ``base`` is a run
        whose evaluation of the untrained model is taken over.
        """
        ...


class Subject(Protocol):
    """A model that is measured: the base of a configuration, until it takes trained weights."""

    @property
    def evaluator(self) -> Evaluator[Any]:
        """The evaluator of the held-out prompts."""
        ...

    def take(self, final: Path) -> None:
        """Take the weights of a run's ``final/``, or of an adapter's folder."""
        ...

    def check(self, final: Path) -> None:
        """Raise AdrpoError where ``take`` would; the model is as it was afterwards."""
        ...


class Door(Protocol):
    """A domain, to the commands."""

    packages: tuple[str, ...]
    """Packages beside those that adrpo always needs."""
    extra: str
    """The extra of adrpo that installs them; empty without any."""
    options: frozenset[str]
    """Options of ``adrpo sample`` and ``evaluate`` that have a meaning here, of those that have
    none for every model."""
    facts: Facts
    """Facts that a run of the domain keeps for those that read it."""
    usual: tuple[str, ...]
    """The recipe around a model that is named without one, and the settings that free it of its own
    model."""
    own_keys: tuple[str, ...]
    """Keys of ``model`` that a recipe sets for its own model, and another one has values of its
    own."""

    def build(self, config: Any, *, reward: Callable[..., Any] | None = None) -> Training:
        """The training of ``config``; ``reward`` replaces the configuration's."""
        ...

    def subject(
        self, config: Any, held_out: Sequence[Prompt] | None = None
    ) -> AbstractContextManager[Subject]:
        """The untrained model of ``config``, to be measured on ``held_out``, by default the
        held-out prompts of its settings."""
        ...

    def on_prompts(self, config: Any, source: str) -> Any:
        """``config`` with the prompts of ``source`` held out in the place of its own."""
        ...

    def sample(
        self,
        config: Any,
        final: Path | None,
        prompts: Sequence[str],
        *,
        size: int,
        seed: int,
        output_dir: Path,
        held_out: Sequence[Prompt] | None = None,
    ) -> Iterator[str]:
        """Draw a sample for each of ``prompts``, or without any for ``size`` of ``held_out``, by
        default the held-out prompts of the settings, as an evaluation draws; yield what the screen
        says of each. ``output_dir`` is made where samples are files. With ``--audio`` among the
        ``options`` it takes ``clips``, too: files of sound that ``prompts`` are about, one for
        each or one for all."""
        ...

    def embedded(self) -> Mapping[str, Callable[[], object]]:
        """A loader for each embedded model of the domain, by the folder of its weights."""
        ...

    def reads(self, described: Mapping[str, Any]) -> bool:
        """Tell whether a model is one of the domain's by its files of
        :data:`~adrpo.runs.model_folder.MODELS`, name -> content."""
        ...

    def check(self, findings: Findings, config: Any) -> None:
        """Say what ``config`` needs, without loading its model."""
        ...

    def tried(self, config: Any) -> list[Trial]:
        """Load the model of ``config`` and try the arithmetic that training rests on."""
        ...


@runtime_checkable
class Guides(Protocol):
    """A door whose models may have classifier-free guidance, beside ``Door``; ``isinstance`` tells
    it from one that has nothing of the kind."""

    def check_guidance(self, config: Any) -> None:
        """Raise AdrpoError, before anything is loaded, where the model of ``config`` has none."""
        ...

    def guided(
        self, config: Any, scales: Sequence[float], held_out: Sequence[Prompt] | None = None
    ) -> Iterator[tuple[float, Evaluator[Any]]]:
        """Each of ``scales`` with an evaluator of the untrained model of ``config`` under it, on
        ``held_out`` or the held-out prompts of its settings; raises as ``check_guidance`` does."""
        ...

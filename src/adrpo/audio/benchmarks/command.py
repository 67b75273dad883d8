"""The benchmarks as the command line asks for them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from adrpo.audio.benchmarks.benchmarks import benchmark_named
from adrpo.audio.benchmarks.endpoint import Endpoint, endpoint_settings
from adrpo.audio.benchmarks.local import LocalModel
from adrpo.audio.benchmarks.pairing import read_verdicts
from adrpo.audio.benchmarks.questions import read_questions
from adrpo.audio.benchmarks.results import score_predictions

__all__ = ["answer", "ask", "score_predictions"]


def ask(
    benchmark: str,
    data: Path,
    predictions: Path,
    url: str,
    written: Sequence[str],
    *,
    against: Path | None,
    say: Callable[[str], None],
) -> bool:
    """Ask the endpoint at ``url`` for what ``predictions`` lacks; False where only the estimate was
    wanted.

    ``written`` are its settings as KEY=VALUE, and ``say`` prints a line. A result ``against`` which
    the answers are to stand is read first, since answers cost money. Raises AdrpoError for files,
    settings or an endpoint that can't be used.
    """
    settings = endpoint_settings(written)
    questions = read_questions(benchmark_named(benchmark), data)
    if against is not None:
        read_verdicts(against, questions)
    endpoint = Endpoint(url, settings, questions, predictions)
    say(endpoint.estimate())
    if settings.dry_run:
        return False

    def told(answered: int, of: int) -> None:
        if answered * 10 // of > (answered - 1) * 10 // of:
            say(f"{answered} of {of} answered")

    endpoint.ask(told)
    return True


def answer(
    benchmark: str,
    data: Path,
    predictions: Path,
    name: str,
    config: Any,
    final: Path | None,
    *,
    shifts: bool,
    against: Path | None,
    say: Callable[[str], None],
) -> None:
    """Ask the model of ``config``, with the weights in ``final``, for what ``predictions`` lacks.

    ``name`` is what the user called it; all else as of :func:`ask`. Raises AdrpoError for files or
    a model that can't be used.
    """
    questions = read_questions(benchmark_named(benchmark), data)
    if against is not None:
        read_verdicts(against, questions)
    model = LocalModel(name, config, final, questions, predictions, shifts=shifts)
    model.ask(lambda answered, of: say(f"{answered} of {of} answered"))

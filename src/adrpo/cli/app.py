"""The commands put together, and what an error looks like.

Modules of the command line import only typer, rich and the standard library at their top: what a
command needs is imported inside it, so that ``adrpo --help`` loads neither diffusers nor
transformers.
"""

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer

from adrpo import AdrpoError, __version__
from adrpo.cli import compare, doctor, models, recipes, report, train
from adrpo.errors import AdrpoWarning

app = typer.Typer(
    name="adrpo",
    help="Fine-tune text-to-image, language and audio-language models by online reinforcement "
    "learning (ADRPO).",
    no_args_is_help=True,
    add_completion=False,
    # A bug should look like a bug: Python's own traceback, not a framed one with all locals.
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"adrpo {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


app.command()(train.demo)
app.command(name="train")(train.train)
app.command(name="compare")(compare.compare)
app.command()(models.sample)
app.command()(models.evaluate)
app.add_typer(recipes.app, name="recipes")
app.command(name="report")(report.report)
app.command(name="doctor")(doctor.doctor)


def _is_no_bad_advice(record: logging.LogRecord) -> bool:
    """transformers asks for torchvision, which it does not need here and which, where its build
    does not match torch's, breaks the import of transformers itself."""
    return "requires torchvision" not in record.getMessage()


@contextmanager
def _notes_in_one_line() -> Iterator[None]:
    """adrpo's own warnings as lines for the user; those of libraries stay as Python prints them."""
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, AdrpoWarning):
                print(f"adrpo: note: {' '.join(str(message).split())}", file=sys.stderr)
            else:
                others(message, category, *place, **more)

        warnings.showwarning = show
        yield


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM, which a scheduler sends before it kills, ends a command as Ctrl-C does: with the
    line that goes on, and without trainings left behind.

    Not under a launcher, which sends it to processes that wait for each other: they have to end
    at once.
    """
    if "WORLD_SIZE" in os.environ or threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def main() -> None:
    """Run the command line.

    Exit codes: 0; 1 where ``doctor`` found something broken; 2 after an error that the user can
    mend, with one line on stderr; 130 after Ctrl-C or SIGTERM.
    """
    logging.getLogger("transformers.utils.import_utils").addFilter(_is_no_bad_advice)
    try:
        with _notes_in_one_line(), _sigterm_as_ctrl_c():
            app()
    except AdrpoError as error:
        from adrpo.config.secrets import redacted

        line = redacted(" ".join(str(error).split()))
        print(f"adrpo: error: {line}", file=sys.stderr)
        _exit(2)
    except Exception as error:
        from adrpo.runs.disk import disk_fault

        if (fault := disk_fault(error)) is None:
            raise
        print(f"adrpo: error: {' '.join(fault.split())}", file=sys.stderr)
        _exit(2)
    except SystemExit as end:  # a command ends so, whatever came of it
        _exit(end.code)


def _exit(code: int | str | None) -> NoReturn:
    if "WORLD_SIZE" in os.environ and isinstance(code, int | None):  # a launcher started it
        from adrpo.runs.processes import end_process

        end_process(code or 0)
    sys.exit(code)

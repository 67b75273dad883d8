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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer

from adrpo import AdrpoError, __version__
from adrpo.cli import compare, doctor, models, play, publish, recipes, report, train
from adrpo.cli.completion import Command, Group
from adrpo.cli.settings import as_setting, takes_settings
from adrpo.errors import AdrpoWarning, UnreadableError, in_a_line

app = typer.Typer(
    name="adrpo",
    cls=Group,
    help="Fine-tune text-to-image, language and audio-language models by online reinforcement "
    "learning (ADRPO).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # main() tells of errors
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


for name, function in (
    ("demo", train.demo),
    ("train", train.train),
    ("compare", compare.compare),
    ("sample", models.sample),
    ("evaluate", models.evaluate),
    ("report", report.report),
    ("play", play.play),
    ("publish", publish.publish),
    ("doctor", doctor.doctor),
):
    app.command(name, cls=Command)(function)
app.add_typer(recipes.app, name="recipes")


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

    Exit codes: 0; 1 where ``doctor`` found something broken; 2 after an error, with one line on
    stderr; 130 after Ctrl-C or SIGTERM. The traceback of an error that a library or a bug raised
    goes to a file, which the line names; with ADRPO_TRACEBACK=1 in the environment to stderr, too.
    """
    logging.getLogger("transformers.utils.import_utils").addFilter(_is_no_bad_advice)
    try:
        with _notes_in_one_line(), _sigterm_as_ctrl_c():
            _refuse_empty(sys.argv[1:])
            ended = app(prog_name="adrpo", standalone_mode=False)
        _exit(ended if isinstance(ended, int) else 0)
    except Exception as error:
        _tell(error)
        _exit(2)
    except SystemExit as end:  # a command ends so, whatever came of it
        _exit(end.code)


def _refuse_empty(words: Sequence[str]) -> None:
    """Raise AdrpoError where a word, or the value of an option, is empty: as a path it would be the
    working folder. A variable of a script that is not set leaves such words."""
    for before, word in zip(["", *words], words, strict=False):
        option, equals, value = word.partition("=")
        if not word.strip():
            named = before if before.startswith("--") else "a name among the arguments"
        elif word.startswith("--") and equals and not value.strip():
            named = option
        else:
            continue
        raise AdrpoError(
            f"{named}: expected a value, received an empty one ({word!r}); leave it out"
        )


def _tell(error: Exception) -> None:
    """Print ``error`` in one line."""
    if not isinstance(error, AdrpoError) and hasattr(error, "format_message"):
        return _tell_usage(error)
    from adrpo.cli.tracebacks import keep_traceback
    from adrpo.config.secrets import redacted
    from adrpo.runs.disk import disk_fault

    line = str(error) if isinstance(error, AdrpoError) else disk_fault(error)
    if line is None and isinstance(error, OSError) and error.filename:
        line = (
            f"{error.filename!s:.200}: expected the name of a file or a folder that can be read "
            f"or written; {error.strerror}; name another; {keep_traceback(error)}"
        )
    if line is None:
        line = (
            f"unexpected {in_a_line(error)}: a bug, or a file that a library could not read; "
            f"{keep_traceback(error)}; please report it"
        )
    elif isinstance(error, UnreadableError):
        line = f"{line}; {keep_traceback(error)}"
    print(f"adrpo: error: {redacted(' '.join(line.split()))}", file=sys.stderr)


def _tell_usage(error: Any) -> None:
    """Print what is wrong with the words of a command in one line, or its help where there are
    none; ``error`` is typer's, whose class lies elsewhere in every few versions of it."""
    text = error.format_message()
    if "Usage:" in text:
        error.show()
        return
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "adrpo"
    line = " ".join(text.split()).rstrip(".")
    option = getattr(error, "option_name", None)
    if option and context and takes_settings(context.command):
        written = as_setting(option, sys.argv[1:])
        line = f"no option {option}; write {written}" if written else line
    print(f"adrpo: error: {line}; see {command} --help", file=sys.stderr)


def _exit(code: int | str | None) -> NoReturn:
    if "WORLD_SIZE" in os.environ and isinstance(code, int | None):  # a launcher started it
        from adrpo.runs.processes import end_process

        end_process(code or 0)
    sys.exit(code)

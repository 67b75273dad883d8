"""The one exception that adrpo raises for a mistake that the user can mend, and its warning."""

import difflib
import errno
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path


class AdrpoError(Exception):
    """A mistake that the user can mend.

    The message is one line: what was expected, what was received, where, and what to do. The
    command line prints it without a traceback and exits with code 2.
    """


class UnreadableError(AdrpoError):
    """A file of the user's that a library could not read; the library's error is its cause.

    The command line keeps the traceback in a file, and names that in the line.
    """


class AdrpoWarning(UserWarning):
    """Something that the user should know of a work that goes on.

    The message is one line. The command line prints it without the place in the code that it
    comes from.
    """


OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""Errors of the system that say nothing about what was read."""

LONGEST = 300
"""Characters of a library's message that an error repeats."""


@contextmanager
def reading(what: str, todo: str) -> Iterator[None]:
    """A block in which a library reads files of the user's: what it raises is an UnreadableError.

    A library says in its own way that a file is not as it ought to be: by an error of any class,
    in several lines, or by that of an arithmetic which a file was the cause of.

    Args:
        what: the key or argument and what was expected of it: "model.pretrained: expected a model,
            received './x'".
        todo: what the user can do.

    Raises:
        AdrpoError: in the place of any error of the block, but for a full disk and a GPU without
            room; an UnreadableError, where it is not that something is missing.
    """
    with _held_records() as records:
        try:
            yield
        except AdrpoError:
            records.clear()
            raise
        except BaseException as error:
            if not _tells_of_a_file(error):
                raise
            records.clear()
            reason = in_a_line(error)
            # What is missing needs no traceback.
            missing = isinstance(error, OSError) or type(error).__name__ == "HFValidationError"
            kind = AdrpoError if missing else UnreadableError
            raise kind(f"{what}, which can't be loaded: {reason}; {todo}") from error


@contextmanager
def of_setting(key: str) -> Iterator[None]:
    """A block in which what the setting ``key`` names is read: an AdrpoError of it, which names the
    place in a file, say, names the setting as well, at its beginning."""
    try:
        yield
    except AdrpoError as error:
        section = key.partition(".")[0]
        if str(error).startswith((f"{section}.", f"{section}:")):
            raise
        raise type(error)(f"{key}: {error}") from error.__cause__


def or_did_you_mean(path: Path | str) -> str:
    """The end of a line on a ``path`` that is not there: of the names that lie beside it the one
    that was meant, or nothing."""
    path = Path(path)
    try:
        names = [found.name for found in path.parent.iterdir()]
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near and near[0] != path.name else ""


@contextmanager
def importing(package: str, key: str, value: str, without: str) -> Iterator[None]:
    """A block that imports the optional ``package``, which ``value`` of a setting needs;
    ``without`` is the setting's value that needs none.

    Raises AdrpoError where the import fails.
    """
    try:
        yield
    except ImportError as error:
        raise AdrpoError(
            f"{key}: expected an installed {package} for {value}; importing it failed ({error}): "
            f"pip install {package}, or set {key}={without}"
        ) from error


def reading_template() -> AbstractContextManager[None]:
    """A block in which a tokenizer renders its chat template, which is text of the model's."""
    return reading("model: expected a chat template of its tokenizer", "download it again")


LIBRARIES = (
    "accelerate",
    "datasets",
    "diffusers",
    "huggingface_hub",
    "peft",
    "transformers",
    "trl",
)
"""Names of the loggers of libraries that read files of the user's."""


@contextmanager
def _held_records() -> Iterator[list[tuple[logging.Handler, logging.LogRecord]]]:
    """A block whose log records of libraries are held back until its end; what is cleared then was
    told in another way."""
    records: list[tuple[logging.Handler, logging.LogRecord]] = []
    handlers = {handler for name in LIBRARIES for handler in logging.getLogger(name).handlers}
    with ExitStack() as stack:
        for handler in handlers:

            def hold(record: logging.LogRecord, handler: logging.Handler = handler) -> bool:
                records.append((handler, record))
                return False

            handler.addFilter(hold)
            stack.callback(handler.removeFilter, hold)
        try:
            yield records
        finally:
            stack.close()
            for handler, record in records:
                handler.handle(record)


def in_a_line(error: BaseException) -> str:
    """The class of ``error`` and its message, shortened to a line."""
    text = " ".join(str(error).split())
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return f"{type(error).__name__}: {shown}" if shown else type(error).__name__


def _tells_of_a_file(error: BaseException) -> bool:
    if not isinstance(error, Exception):
        # A library written in Rust ends so where it has no error for what it met.
        return type(error).__name__ == "PanicException"
    if type(error).__name__ == "OutOfMemoryError":  # of torch, which is not imported here
        return False
    return not (isinstance(error, OSError) and error.errno in OF_THE_DISK)

"""Errors of all kinds as a user meets them: one line, and a file with the traceback."""

import errno
import logging
from pathlib import Path

import pytest

import adrpo.cli.recipes
import adrpo.cli.train
from adrpo.cli.tracebacks import keep_traceback, note_run
from adrpo.config.secrets import resolved
from adrpo.errors import AdrpoError, UnreadableError, reading
from support.command_line import Command


class PanicException(BaseException):
    """As libraries written in Rust end."""


def kept() -> list[Path]:
    return sorted(Path().rglob("adrpo-traceback-*"))


def test_a_bug_is_one_line_and_its_traceback_in_a_file(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sesame-7")
    resolved("env:MY_KEY", "here")

    def broken(*_: object) -> None:
        raise KeyError("one line\nand another, sesame-7")

    monkeypatch.setattr(adrpo.cli.train, "_print_config", broken)
    assert command("demo", "--dry-run") == 2
    assert command.err.count("\n") == 1 and "sesame" not in command.err
    (file,) = kept()
    assert command.err.startswith("adrpo: error: unexpected KeyError") and str(file) in command.err
    text = file.read_text(encoding="utf-8")
    assert "Traceback" in text and "in broken" in text and "demo --dry-run" in text
    assert "sesame" not in text
    monkeypatch.setenv("ADRPO_TRACEBACK", "1")
    assert command("demo", "--dry-run") == 2
    assert "in broken" in command.err and "sesame" not in command.err


def test_a_mistake_leaves_no_file(command: Command) -> None:
    assert command("train", "no-such") == 2
    assert command.err.count("\n") == 1 and not kept()


def test_the_traceback_is_beside_the_run_else_here_else_among_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    note_run(run)
    assert keep_traceback(ValueError("x")).startswith("traceback in adrpo-traceback-")
    run.mkdir()
    (run / "config.yaml").touch()
    assert keep_traceback(ValueError("x")).startswith(f"traceback in {run}/adrpo-traceback-")
    opened = Path.open

    def refusing(path: Path, *arguments: object, **named: object) -> object:
        if path.parent in (run, Path()):
            raise OSError(errno.EROFS, "read-only")
        return opened(path, *arguments, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refusing)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    assert keep_traceback(ValueError("x")).startswith("no folder can be written")
    (tmp_path / "temporary").mkdir()
    assert f"traceback in {tmp_path}/temporary/" in keep_traceback(ValueError("x"))
    note_run(Path("nowhere"))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a\nb"), KeyError("a"), IndexError(), RecursionError("deep"), MemoryError(),
        OSError(errno.ENOENT, "not there"), PanicException("rust"), AttributeError("x" * 5000),
    ],
)  # fmt: skip
def test_what_a_library_raises_is_told_of_the_file(error: BaseException) -> None:
    with pytest.raises(AdrpoError) as caught, reading("the key: expected ./x", "mend it"):
        raise error
    line = str(caught.value)
    assert line.startswith("the key: expected ./x, which can't be loaded: " + type(error).__name__)
    assert line.endswith("; mend it") and "\n" not in line and len(line) < 500
    assert caught.value.__cause__ is error
    # Of a file that is missing a traceback says no more.
    assert isinstance(caught.value, UnreadableError) != isinstance(error, OSError)


@pytest.mark.parametrize(
    "error",
    [AdrpoError("ours"), KeyboardInterrupt(), SystemExit(3), OSError(errno.ENOSPC, "full"),
     type("OutOfMemoryError", (RuntimeError,), {})("CUDA")],
)  # fmt: skip
def test_what_says_nothing_of_a_file_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, reading("x", "y"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize("ends_well", [True, False])
def test_a_librarys_notes_are_kept_for_what_was_read(ends_well: bool) -> None:
    told: list[str] = []
    library = logging.getLogger("transformers")
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    library.addHandler(handler)
    try:
        with pytest.raises(AdrpoError) if not ends_well else reading("a", "b"), reading("x", "y"):
            library.error("weights are missing")
            assert told == []
            if not ends_well:
                raise ValueError
        assert told == (["weights are missing"] if ends_well else [])
        library.error("later")
        assert told[-1] == "later"
    finally:
        library.removeHandler(handler)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["report", ""], "a name among the arguments"),
        (["train", " "], "a name among the arguments"),
        (["train", "flow/demo", "--output-dir", ""], "--output-dir"),
        (["train", "flow/demo", "--output-dir="], "--output-dir"),
        (["train", "flow/demo", "--base", ""], "--base"),
        (["evaluate", "embedded", "--prompts", ""], "--prompts"),
        (["recipes", "copy", "flow/demo", ""], "a name among the arguments"),
    ],
)
def test_an_empty_word_is_refused(command: Command, arguments: list[str], named: str) -> None:
    assert command(*arguments) == 2
    assert command.err.startswith(f"adrpo: error: {named}: expected a value, received an empty one")
    assert command.err.count("\n") == 1 and not list(Path().iterdir())


@pytest.mark.parametrize(
    "key",
    ["prompts.train", "model.pretrained", "reward.0.name", "adapter.start_from", "model.device"],
)
def test_an_empty_name_in_a_recipe_is_refused(command: Command, key: str) -> None:
    assert command("train", "flow/adrpo", f"{key}=''", "--dry-run") == 2
    assert key.rpartition(".")[2] in command.err and command.err.count("\n") == 1


@pytest.mark.parametrize("name", ["NO-SUCH", "flow/no-such", "no.yaml"])
def test_doctor_refuses_a_name_of_nothing(command: Command, name: str) -> None:
    assert command("doctor", name) == 2
    assert name in command.err and command.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["report"], ["recipes", "show"], ["train"], ["doctor"]])
def test_a_name_longer_than_a_name_can_be_is_one_line(
    command: Command, arguments: list[str]
) -> None:
    assert command(*arguments, "x" * 5000) == 2
    assert "xxx" in command.err and command.err.count("\n") == 1


@pytest.mark.parametrize("command_name", ["show", "copy"])
def test_what_is_no_recipe_is_neither_shown_nor_copied(command: Command, command_name: str) -> None:
    Path("binary.yaml").write_bytes(bytes(range(256)))
    to = ["copy.yaml"] if command_name == "copy" else []
    assert command("recipes", command_name, "binary.yaml", *to) == 2
    assert "binary.yaml" in command.err and not Path("copy.yaml").exists()

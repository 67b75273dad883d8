"""Settings of the whole suite; the shape checks must stand before adrpo is first imported."""

import gc
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from support.command_line import Command

# Nothing in the suite may reach a model hub: what it needs it builds or the package embeds.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

pytest_plugins = ["support.file_times"]

CHECKED = ("adrpo.core", "adrpo.flow.path")

early = [name for name in CHECKED if name in sys.modules]
if early:
    raise RuntimeError(f"imported before the shape checks were installed: {early}")
install_import_hook(CHECKED, "beartype.beartype")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """A command puts the folders of a user's rewards on Python's path, and leaves them there."""
    kept = sys.path[:]
    try:
        return (yield)
    finally:
        sys.path[:] = kept


@pytest.fixture(scope="module")
def frozen_imports() -> Iterator[None]:
    """For modules that train by TRL: transformers' Trainer.train collects garbage, and looking
    through all that torch imported takes seconds each time."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a language model of a few thousand parameters."""
    from support.tiny_language_model import save_tiny_model

    return str(save_tiny_model(tmp_path_factory.mktemp("model")))


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> "Command":
    """The command line, in an empty folder, since the defaults of --output-dir are relative."""
    from support.command_line import Command

    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)

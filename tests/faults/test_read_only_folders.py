"""Finished and stopped runs, and a comparison, in folders that nothing can be written into."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from adrpo.cli.domains import door_of
from adrpo.config import config_to_yaml
from support.command_line import Command
from support.fabricated_comparison import fabricate_comparison
from support.tiny_language_runs import tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS
from support.tiny_runs import tiny_config

pytestmark = [
    *LANGUAGE_MARKS,
    pytest.mark.filterwarnings("ignore::adrpo.errors.AdrpoWarning"),
]

Seal = Callable[[Path], None]


def mount(*words: str) -> bool:
    return shutil.which("mount") is not None and not subprocess.call(
        ["mount", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@pytest.fixture
def sealed() -> Iterator[Seal]:
    """Makes a folder with all that is in it read-only until the test's end, for root as well."""
    with ExitStack() as stack:

        def seal(folder: Path) -> None:
            if os.geteuid() != 0:
                for path in (folder, *folder.rglob("*")):
                    stack.callback(path.chmod, path.stat().st_mode)
                    path.chmod(path.stat().st_mode & 0o555)
                return
            if not mount("--bind", str(folder), str(folder)):
                pytest.skip("root writes everywhere, and may not mount here")
            # Lazily: a file of it may be open until what read it is collected.
            stack.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
            assert mount("-o", "remount,bind,ro", str(folder))

        yield seal


@pytest.fixture(scope="module", params=["images", "texts"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe and its finished run of one step."""
    folder = tmp_path_factory.mktemp(request.param)
    sections: dict[str, Any] = {"training": {"steps": 1}, "evaluation": {"samples_per_prompt": 2}}
    if request.param == "images":
        reward: Any = [{"name": "support.tiny_runs:darkness"}]
        config: Any = tiny_config(**sections, reward=reward)
    else:
        config = tiny_language_config(write_material(folder), **sections)
    (folder / "recipe.yaml").write_text(config_to_yaml(config), encoding="utf-8")
    door_of(config).build(config).train(folder / "run", progress=False)
    return folder


def test_a_run_that_cant_be_written_is_one_line_and_can_be_asked(
    made: Path, sealed: Seal, command: Command, tmp_path: Path
) -> None:
    run, recipe = tmp_path / "run", str(made / "recipe.yaml")
    shutil.copytree(made / "run", run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    sealed(run)
    for arguments in (
        ("train", recipe, "--output-dir", str(run), "--resume", "training.steps=2"),
        ("train", recipe, "--output-dir", str(run), "--resume"),  # no step is left, but a page
        ("report", str(run)),
    ):
        assert command(*arguments) == 2, arguments
        assert command.err.count("\n") == 1 and str(run) in command.err, command.err
    # What writes elsewhere does not need to write here.
    for arguments in (
        ("sample", str(run), "--output-dir", str(tmp_path / "sampled")),
        ("report", str(run), str(made / "run"), "--output", str(tmp_path / "page.html")),
    ):
        assert command(*arguments) == 0, (arguments, command.err)
    assert (tmp_path / "page.html").is_file()
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_comparison_that_cant_be_written_is_one_line(
    sealed: Seal, command: Command, tmp_path: Path
) -> None:
    plan = fabricate_comparison(tmp_path / "compared", methods=("ours", "fixed"), prompts=4)
    recipes = [str(method.recipe) for method in plan.methods]
    words = [*recipes, "--seeds", "3", "--output-dir", str(plan.folder)]
    sealed(plan.folder)
    for more in ([], ["--summary-only"]):
        assert command("compare", *words, *more) == 2, command.out
        assert command.err.count("\n") == 1 and str(plan.folder) in command.err, command.err

"""A reward of the caller's own: what it was is recorded, and where it lies is found."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from adrpo.cli.domains import door_of
from adrpo.config import load_recipe
from adrpo.errors import AdrpoError
from adrpo.report import write_report
from support.command_line import Command
from support.prompt_files import place, refused, trained
from support.tiny_language_trainers import LANGUAGE_MARKS
from support.tiny_runs import of_any_sample

pytestmark = LANGUAGE_MARKS

__all__ = ["place", "trained"]


@pytest.fixture
def adrpo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def twice(prompts: list[Any], **_: Any) -> list[float]:
    return [2.0 * len(prompt) for prompt in prompts]


def train(folder: str, reward: Any, **options: Any) -> None:
    config = load_recipe("recipe.yaml")
    door_of(config).build(config, reward=reward).train(folder, progress=False, **options)


def test_a_reward_given_in_python_is_not_exchanged_for_the_recipes(place: Path, adrpo: Command):
    """By --resume, by --base, by evaluate, and by training from the run's configuration."""
    train("own", twice)
    before = sorted(Path("own").rglob("*"))
    name = f"{__name__}:twice"
    assert adrpo("train", "recipe.yaml", "--output-dir", "own", "--resume") == 2
    refused(adrpo, "--resume", name, "resume=True")
    assert adrpo("evaluate", "own", "--output-dir", "measured") == 2
    refused(adrpo, name, f"reward=[{{name: {name}}}]")
    assert adrpo("train", "own/config.yaml", "--output-dir", "again") == 2
    refused(adrpo, name)
    assert adrpo("train", "recipe.yaml", "--output-dir", "new", "--base", "own") == 2
    refused(adrpo, "--base", name)
    assert not Path("measured").exists() and not Path("again").exists()
    assert sorted(Path("own").rglob("*")) == before
    # The line that helps does, and so does the callable itself.
    chosen = "reward=[{name: support.tiny_runs:of_any_sample}]"
    assert adrpo("evaluate", "own", chosen, "--output-dir", "measured") == 0, adrpo.err
    train("own", twice, resume=True)
    with pytest.raises(AdrpoError, match=r"expected the reward .*twice.* received .*of_any_sample"):
        train("own", of_any_sample, resume=True)
    assert name in write_report(Path("own")).read_text(encoding="utf-8")


def test_a_run_of_the_recipes_reward_is_not_gone_on_with_by_another(place: Path):
    with pytest.raises(AdrpoError, match=r"--resume: expected the reward of .*config\.yaml.*twice"):
        train("run", twice, resume=True)


def test_a_callable_without_a_name_is_told_by_its_kind(place: Path, adrpo: Command):
    class Judge:
        def __call__(self, prompts: list[Any], **_: Any) -> list[float]:
            return [1.0 * (len(prompt) % 3) for prompt in prompts]

    train("own", Judge())
    assert adrpo("evaluate", "own", "--output-dir", "measured") == 2
    refused(adrpo, "Judge", "package.module:callable")


def write_reward(folder: Path, module: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(
        "def mine(prompts, **columns):\n    return [float(len(prompt)) for prompt in prompts]\n",
        encoding="utf-8",
    )


@pytest.mark.parametrize("beside", ["recipe", "here"])
def test_a_reward_beside_the_recipe_or_here_is_found(
    place: Path, adrpo: Command, beside: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """By training, by doctor, and by an evaluation of the run from another folder."""
    domain = yaml.safe_load(Path("recipe.yaml").read_text(encoding="utf-8"))["domain"]
    module = f"reward_{beside}_{domain}"
    Path("recipes").mkdir()
    shutil.copy("recipe.yaml", "recipes/own.yaml")
    write_reward(Path("recipes") if beside == "recipe" else Path(), module)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(place))])
    chosen = f"reward=[{{name: {module}.mine}}]"
    assert adrpo("doctor", "recipes/own.yaml", chosen) == 0, adrpo.out
    assert adrpo("train", "recipes/own.yaml", chosen, "--output-dir", "own") == 0, adrpo.err
    # As a process of its own would: without the module, and without its folder on the path.
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if str(place) not in entry])
    monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr("adrpo.config.places._PLACES", {})
    monkeypatch.chdir(tmp_path)
    assert adrpo("evaluate", str(place / "own"), "--output-dir", "measured") == 0, adrpo.err


def test_a_module_that_is_nowhere_is_told_with_the_places(place: Path, adrpo: Command):
    chosen = "reward=[{name: nowhere_at_all.mine}]"
    assert adrpo("train", "recipe.yaml", chosen, "--output-dir", "own") == 2
    refused(adrpo, "nowhere_at_all", "beside the recipe", "PYTHONPATH")

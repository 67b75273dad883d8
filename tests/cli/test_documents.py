"""What README and docs tell a reader to type works: commands up to the work, blocks as they stand.

A command is read by the command line itself, and what it names is looked up: recipes with their
settings, as a dry run does it, the plan of a comparison, folders of runs that another command of
the documents makes, options of scripts, targets of make, extras of the package.
"""

import glob
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from adrpo.cli.app import app
from adrpo.cli.domains import all_facts
from adrpo.cli.train import _run_name
from adrpo.comparison import Plan
from adrpo.config import find_recipe, load_recipe, names_and_overrides, recipe_names
from support.documents import PAGES, ROOT, Typed, commands

ALL = [typed for page in PAGES for typed in commands(page)]
CARRIED_OUT = ("docs/extend/", "docs/start/your-own.md")
"""Pages that other tests type from top to bottom, files and all."""

RECORDED = "docs/results/sources.md"
"""Commands as they were given at the commits of the results."""

LEFT_OPEN = re.compile(r"[A-Z]+(\.\.\.)?|\.\.\.|section\.key=value")
"""A word for which the reader puts another."""

STAND_INS = {"my-recipe.yaml": "flow/awm", "mine.yaml": "flow/adrpo"}
"""Files of the reader's -> a recipe in their place."""

COMMANDS: Any = typer.main.get_command(app)


def made_runs() -> set[str]:
    """The folders that commands of the documents fill."""
    made = set[str]()
    for typed in ALL:
        words = list(typed.words)
        if "adrpo" in words and {"train", "demo", "evaluate"} & set(words):
            command = words[words.index("adrpo") + 1 :]
            if "--output-dir" in command:
                made.add(command[command.index("--output-dir") + 1])
            elif command[0] == "demo":
                made.add("runs/demo")
            elif command[0] == "train" and len(command) > 1:
                made.add(f"runs/{_run_name(command[1])}")
    return made


def ids(typed: Typed) -> str:
    return str(typed)[:90]


def typed_once(keep: Callable[[Typed], bool]) -> list[Typed]:
    return [typed for typed in dict.fromkeys(ALL) if keep(typed)]


def is_adrpo(typed: Typed) -> bool:
    return "adrpo" in typed.words and not typed.page.startswith((*CARRIED_OUT, RECORDED))


@pytest.mark.parametrize("typed", typed_once(is_adrpo), ids=ids)
def test_a_command_of_adrpo_is_read_and_finds_what_it_names(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(ROOT)
    # The trackers' libraries are no part of the tests' environment.
    monkeypatch.setattr("adrpo.config.shared.check_installed", lambda trackers: None)
    name, *words = typed.words[typed.words.index("adrpo") + 1 :]
    if name.startswith("-") or LEFT_OPEN.fullmatch(name):
        assert name in {*options(COMMANDS), "COMMAND"}
        return
    command = COMMANDS.commands[name]
    while words and (inner := getattr(command, "commands", {}).get(words[0])):
        command, words = inner, words[1:]
    words = [found for word in words for found in sorted(glob.glob(word)) or [word]]
    named_alone = typed.inline and all(word.startswith("--") for word in words)
    if named_alone or any(LEFT_OPEN.fullmatch(word) for word in words):
        unknown = {word for word in words if word.startswith("--")} - options(command)
        assert not unknown
        return
    with command.make_context(name, words) as context:
        CHECKS.get(name, lambda parameters, folder: None)(context.params, tmp_path)


def options(command: Any) -> set[str]:
    with typer.Context(command) as context:
        return {option for one in command.get_params(context) for option in one.opts}


def stand_in(recipe: str) -> str:
    return STAND_INS.get(recipe, recipe)


def check_train(parameters: dict[str, Any], folder: Path) -> None:
    recipe = stand_in(parameters.get("recipe") or "flow/demo")
    load_recipe(recipe, parameters["overrides"] or []).check_trains()


def check_compare(parameters: dict[str, Any], folder: Path) -> None:
    names, overrides = names_and_overrides(parameters["recipes"], expected="recipes", most=None)
    overrides += parameters["settings"] or []
    plan = Plan.resolve(
        folder, list(map(stand_in, names)), overrides, parameters["seeds"],
        parameters["reference"], all_facts(), parameters["primary"],
    )  # fmt: skip
    assert len(plan.methods) == len(names)


def check_target(parameters: dict[str, Any], folder: Path) -> None:
    target = parameters["target"] or ""
    assert not target.startswith("runs/") or target in made_runs()
    if parameters["recipe"]:
        load_recipe(parameters["recipe"], parameters["overrides"] or [])


def check_run(parameters: dict[str, Any], folder: Path) -> None:
    words = parameters.get("run") or parameters.get("runs") or ()
    for run in [words] if isinstance(words, str | Path) else words:
        assert str(run) in made_runs()


def check_doctor(parameters: dict[str, Any], folder: Path) -> None:
    names, overrides = names_and_overrides(parameters["arguments"] or [], least=0)
    if names and stand_in(names[0]) in recipe_names():
        load_recipe(stand_in(names[0]), overrides)


def check_recipe(parameters: dict[str, Any], folder: Path) -> None:
    if parameters.get("name"):
        find_recipe(parameters["name"])


CHECKS = {
    "train": check_train,
    "demo": check_train,
    "compare": check_compare,
    "evaluate": check_target,
    "sample": check_target,
    "report": check_run,
    "publish": check_run,
    "doctor": check_doctor,
    "recipes": check_recipe,
}


def test_a_run_that_no_command_makes_is_told():
    assert {"runs/demo", "runs/mine", "runs/llm-embedded", "runs/heard"} <= made_runs()
    assert "runs/embedded" not in made_runs()
    with pytest.raises(AssertionError):
        check_target({"target": "runs/embedded", "recipe": None}, Path())


def is_script(typed: Typed) -> bool:
    return typed.words[0] in ("python", "accelerate") and not typed.page.startswith(CARRIED_OUT)


@pytest.mark.parametrize("typed", typed_once(is_script), ids=ids)
def test_a_script_and_a_settings_file_are_there_with_the_options_that_are_named(typed: Typed):
    words = typed.words[1:]
    if typed.words[0] == "accelerate":
        files = [word for word in words if word.endswith(".yaml")]
        assert all((ROOT / file).is_file() for file in files)
        return
    if words[0] == "-m":
        words = words[1:]
        place = Path("src" if words[0].startswith("adrpo") else "", *words[0].split("."))
        places = (place.with_suffix(".py"), place / "__main__.py")
        file = next(file for file in places if (ROOT / file).is_file())
    else:
        file = Path(words[0])
    source = (ROOT / file).read_text(encoding="utf-8")
    assert [word for word in words if word.startswith("--") and f'"{word}"' not in source] == []


def is_make_or_pip(typed: Typed) -> bool:
    return typed.words[0] in ("make", "pip")


@pytest.mark.parametrize("typed", typed_once(is_make_or_pip), ids=ids)
def test_a_target_of_make_and_an_extra_are_there(typed: Typed):
    if typed.words[0] == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{typed.words[1]}:", makefile, flags=re.M)
    for word in typed.words:
        if extra := re.fullmatch(r"\.\[([\w,]+)\]", word):
            project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            assert set(extra[1].split(",")) <= project["optional-dependencies"].keys()


def test_what_is_resumed_is_what_was_started():
    """A run goes on by the settings that it was begun with, on the same page."""
    resumed = 0
    started: dict[tuple[str, str], Any] = {}
    for typed in ALL:
        if typed.words[:2] != ("adrpo", "train") or "--output-dir" not in typed.words:
            continue
        if typed.page.startswith(CARRIED_OUT):
            continue
        _, _, recipe, *rest = typed.words
        folder = rest[rest.index("--output-dir") + 1]
        settings = load_recipe(stand_in(recipe), [word for word in rest if "=" in word])
        if "--resume" in rest:
            resumed += 1
            assert started[typed.page, folder] == settings
        started[typed.page, folder] = settings
    assert resumed


def test_the_readme_begins_with_what_fits_on_two_screens():
    """What it is, how to install it, a recipe, a script, and where to read on; then the table."""
    beginning, _, rest = (ROOT / "README.md").read_text(encoding="utf-8").partition("## What it")
    assert len(beginning.splitlines()) < 90
    headings = ("## Install", "## A recipe", "## The same in Python", "## Read on")
    assert [line for line in beginning.splitlines() if line.startswith("## ")] == [*headings]
    assert rest.splitlines()[2].startswith("| recipe |")

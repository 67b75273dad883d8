"""Where a run's files and a user's rewards are looked for, and what a callable is called."""

import functools
import sys
from pathlib import Path

import pytest

from adrpo.config import FlowConfig
from adrpo.config.places import note_place, open_places, places
from adrpo.errors import AdrpoError
from adrpo.evaluation.whereabouts import from_home
from adrpo.runs.directory import RunDirectory
from adrpo.runs.inputs import Inputs, callable_name, check_trained_by_settings
from support.tiny_runs import darkness


def test_what_is_installed_is_found_before_a_file_beside_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adrpo.config.places._PLACES", {})
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside").mkdir()
    before = [*sys.path]
    note_place("beside")
    open_places()
    assert sys.path == [*before, str(tmp_path / "beside"), str(tmp_path)]
    assert places() == sys.path[-2:]
    open_places()
    assert sys.path.count(str(tmp_path)) == 1


def test_names_that_mean_the_same_everywhere_stay_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the folder of the run has folders that are called so."""
    home = tmp_path / "home"
    for name in ("embedded", "scenes", "train", "own"):
        (home / name).mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = FlowConfig()
    assert (config.model.pretrained, config.prompts.train) == ("embedded", "scenes:train")
    assert from_home(config, home) == []
    named = config.model_copy(
        update={"model": config.model.model_copy(update={"pretrained": "own"})}
    )
    assert from_home(named, home) == [f'model.pretrained="{home / "own"}"']


def test_a_callable_is_called_by_its_module_and_name() -> None:
    name = "support.tiny_runs:darkness"
    assert callable_name(darkness) == callable_name(functools.partial(darkness)) == name
    assert callable_name(None) is None


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("reward=[{name: jpeg_size}]", True),
        ("reward.0.name=jpeg_size", True),
        ("reward.0.weight=2", False),
        ("training.steps=2", False),
    ],
)
def test_only_a_name_is_another_reward(tmp_path: Path, override: str, named: bool) -> None:
    """Of a run that Python gave its reward."""
    files = Inputs(reward=callable_name(darkness)).files()
    run = RunDirectory.create(tmp_path / "run", "domain: flow\n", files)
    if named:
        check_trained_by_settings(run, [override])
    else:
        with pytest.raises(AdrpoError, match=r"Python gave support\.tiny_runs:darkness"):
            check_trained_by_settings(run, [override])

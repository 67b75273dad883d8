"""A run that ends in an error leaves nothing before it began, and everything after."""

from pathlib import Path

import pytest

from adrpo.flow.facts import FACTS
from adrpo.runs.checkpoints import save_checkpoint
from adrpo.runs.directory import RunDirectory
from adrpo.runs.inputs import Inputs
from adrpo.runs.session import session
from support.tiny_runs import tiny_config


def failing(folder: Path, *, resume: bool = False, begun: bool = False) -> None:
    """A call that fails, with or without an evaluation behind it."""
    with (
        pytest.raises(RuntimeError),
        session(folder, tiny_config(), facts=FACTS, inputs=Inputs(), resume=resume) as opened,
    ):
        if begun:
            opened.run.append_evaluation({"step": 0, "split": "unseen"})
        raise RuntimeError


def test_a_run_that_never_began_leaves_no_folder(tmp_path: Path) -> None:
    failing(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "made").mkdir()
    failing(tmp_path / "made")
    assert list((tmp_path / "made").iterdir()) == []


def test_a_run_that_began_stays(tmp_path: Path) -> None:
    failing(tmp_path / "run", begun=True)
    assert RunDirectory.open(tmp_path / "run").read_evaluations()


def test_a_run_that_is_gone_on_with_stays_though_it_never_began(tmp_path: Path) -> None:
    """As one whose first call was killed while it loaded its model."""
    config = tiny_config()
    with (
        pytest.raises(KeyboardInterrupt),
        session(tmp_path / "run", config, facts=FACTS, inputs=Inputs()),
    ):
        raise KeyboardInterrupt
    failing(tmp_path / "run", resume=True)
    assert RunDirectory.open(tmp_path / "run").config.is_file()


def test_checkpoints_that_a_kill_left_beyond_keep_are_removed(tmp_path: Path) -> None:
    """As one that fell between the last save and the removal of the oldest: no save comes after."""
    config = tiny_config(checkpoint={"every": 1, "keep": 2})
    with session(tmp_path / "run", config, facts=FACTS, inputs=Inputs()) as opened:
        for step in range(4):
            save_checkpoint(opened.run, step, {"step": step}, keep=9)
    with session(tmp_path / "run", config, facts=FACTS, inputs=Inputs(), resume=True) as opened:
        opened.go_back(3)
        left = sorted(path.name for path in opened.run.checkpoints.iterdir())
    assert left == ["step-000002", "step-000003"]

"""Every key of the domain flow that a whole run shows, changed once (wiring/flow_run.py)."""

import pytest

from wiring.flow_run import CHANGED, RUN, STOPPED, ImageRun, stopped_run
from wiring.table import Seen

pytestmark = pytest.mark.filterwarnings("ignore:evaluation.distances. ")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ImageRun:
    return ImageRun(tmp_path_factory.mktemp("runs") / "changed", **CHANGED)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> ImageRun:
    return stopped_run(tmp_path_factory.mktemp("runs") / "stopped")


@pytest.mark.parametrize("key", [key for key, row in RUN.items() if isinstance(row, Seen)])
def test_a_run_follows_the_key(key: str, run: ImageRun) -> None:
    row = RUN[key]
    assert isinstance(row, Seen)
    row.effect(run, row.value)


@pytest.mark.parametrize("key", STOPPED)
def test_a_run_stops_by_the_key(key: str, stopped: ImageRun) -> None:
    row = STOPPED[key]
    assert isinstance(row, Seen)
    row.effect(stopped, row.value)

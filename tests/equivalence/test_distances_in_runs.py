"""Distances between sets of images in whole runs: gone on with, measured again, refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from adrpo.config import FlowConfig
from adrpo.errors import AdrpoError
from adrpo.flow.domain import build_trainer
from support.command_line import Command
from support.tiny_runs import darkness, embedded_config, whole_and_resumed
from support.tiny_vision import picture_folder, pictures, tiny_dinov2

pytestmark = pytest.mark.filterwarnings("ignore:evaluation.distances. ")
DRIFT, DISTANCE = ("frechet_drift", "kernel_drift"), ("frechet_distance", "kernel_distance")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("distances")


@pytest.fixture(scope="module")
def dinov2(folder: Path) -> str:
    return str(tiny_dinov2(folder / "dinov2"))


def config(dinov2: str, references: str | None) -> FlowConfig:
    distances = {"features": dinov2, "references": references}
    return embedded_config(
        model={"device": "cpu"}, training={"learning_rate": 0.02},
        evaluation={"distances": distances},
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(folder: Path, dinov2: str) -> Path:
    """Two runs of one seed, whole and resumed, that are measured by their drift."""
    whole_and_resumed(config(dinov2, None), darkness, folder / "runs")
    return folder / "runs"


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]


def test_a_resumed_run_measures_the_drift_from_the_same_base(runs: Path) -> None:
    whole, resumed = rows(runs / "whole"), rows(runs / "stopped")
    assert whole == resumed
    assert [row["step"] for row in whole] == [0, 2, 4]
    for name in DRIFT:
        assert whole[0][name] == 0
        # The base has none, so that the change is all of it.
        assert whole[2][f"{name}_change"] == whole[2][name] != whole[1][name] != 0
    assert whole[2]["frechet_drift"] > whole[1]["frechet_drift"] > 0


def test_a_run_is_measured_again_and_compared_with_other_pictures(
    runs: Path, dinov2: str, folder: Path, command: Command
) -> None:
    run, again = str(runs / "whole"), ("--output-dir", "again")
    reward = "reward=[{name: support.tiny_runs:darkness}]"
    assert command("evaluate", run, reward, *again) == 0, command.err
    found = rows(Path("again"))
    for name in DRIFT:
        assert found[-1][name] == pytest.approx(rows(runs / "whole")[-1][name], rel=1e-3)
        assert name in command.out
    assert command("report", run) == 0, command.err
    page = (runs / "whole/report.html").read_text(encoding="utf-8")
    assert "Fréchet drift" in page and "Kernel drift" in page
    real = picture_folder(folder / "real", 6)
    named = f"evaluation.distances.references={real}"
    assert command("evaluate", run, reward, named, "--output-dir", "real") == 0, command.err
    found = rows(Path("real"))
    for name in DISTANCE:
        assert found[0][name] > 0 and found[1][f"{name}_change"] != 0
    (real / "1.png").write_bytes(b"no picture")
    assert command("evaluate", run, reward, named, "--output-dir", "broken") == 2
    assert f"{real / '1.png'}: expected an image that can be read" in command.err
    assert len(command.err.strip().splitlines()) == 1
    assert not Path("broken").exists()


def test_a_run_goes_on_with_its_own_pictures_alone(dinov2: str, tmp_path: Path) -> None:
    real = picture_folder(tmp_path / "real", 5)
    settings, run = config(dinov2, str(real)), tmp_path / "run"
    build_trainer(settings, reward=darkness).train(run, progress=False)
    before = (run / "evaluations.jsonl").read_bytes()
    # Other names are the same pictures.
    (real / "1.png").rename(real / "moved.png")
    build_trainer(settings, reward=darkness).train(run, progress=False, resume=True)
    pictures(5, seed=1)[2].save(real / "2.png")
    changed = build_trainer(settings, reward=darkness)
    with pytest.raises(AdrpoError, match=r"--resume: expected the pictures of"):
        changed.train(run, progress=False, resume=True)
    with pytest.raises(AdrpoError, match=r"--base: expected the pictures of"):
        changed.train(tmp_path / "other", progress=False, base=run)
    assert (run / "evaluations.jsonl").read_bytes() == before

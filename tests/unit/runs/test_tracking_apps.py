"""What W&B, MLflow and Trackio hear of a run, read by their own readers; nothing leaves here."""

import json
import os
import sqlite3
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from adrpo.config import FlowConfig
from adrpo.runs.directory import RunDirectory
from adrpo.runs.processes import ALONE
from adrpo.runs.tracking import FILE, tracked
from support.tracked_runs import (
    PROMPTS,
    evaluation_of,
    new_run,
    row_of,
    rows_sent,
    tracking_config,
    write_pictures,
    write_steps,
)
from support.wandb_files import read_history, read_start

needs_apps = pytest.mark.skipif(
    find_spec("mlflow") is None and "ADRPO_EXPECT_APPS" not in os.environ,
    reason="W&B, MLflow and Trackio are not installed: make test-apps",
)
# MLflow's own use of SQLAlchemy.
ignored = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
pytestmark = [pytest.mark.apps, needs_apps, ignored]

KEY = "0123456789abcdef0123456789abcdef01234567"


def resumed(folder: Path, config: FlowConfig) -> RunDirectory:
    """A run that was killed after step 5, before its evaluation of the seen prompts of step 4 was
    sent, and that goes on from step 3 to step 6."""
    write_steps(new_run(folder, config), config, 0, 3)
    run = RunDirectory.open(folder)
    with tracked(run, config, ALONE):
        run.append_metrics(row_of(4))
        write_pictures(run, 4)
        run.append_evaluation(evaluation_of(4))
        run.append_metrics(row_of(5))
    run = RunDirectory.open(folder)
    with tracked(run, config, ALONE):
        run.truncate_after(3)
        run.append_metrics(row_of(4))
        for split in ("unseen", "seen"):
            run.append_evaluation(evaluation_of(4, split))
        for step in (5, 6):
            run.append_metrics(row_of(step))
        write_pictures(run, 6)
        for split in ("unseen", "seen"):
            run.append_evaluation(evaluation_of(6, split))
    return run


def test_an_offline_run_of_weights_and_biases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three starts are three folders of one run, which `wandb sync` puts together."""
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    settings = {"console": "off", "x_disable_stats": True}
    options = {"mode": "offline", "settings": settings}
    config = tracking_config({"name": "wandb", "project": "circles", "options": options})
    run = resumed(tmp_path / "red", config)
    folders = sorted((run.path / "wandb").glob("offline-run-*"), key=lambda f: f.stat().st_mtime)
    starts = [read_start(folder) for folder in folders]
    identity = json.loads((run.path / FILE).read_text())["wandb"]["identity"]
    assert {(s["id"], s["name"], s["project"]) for s in starts} == {(identity, "red", "circles")}
    assert starts[0]["config"]["training.learning_rate"] == 1e-3
    history = [row for folder in folders for row in read_history(folder)]
    for name, expected in rows_sent(6).items():
        # W&B's own count is ahead of a step that is made again; charts go by "step".
        assert [(row["step"], row[name]) for row in history if name in row] == expected
    shown = [row for row in history if "samples.captions" in row]
    assert [row["step"] for row in shown] == [0, 2, 4, 6]
    assert shown[0]["samples.captions"] == PROMPTS
    first = folders[0] / "files" / shown[0]["samples.filenames"][0]
    with Image.open(first) as picture:
        assert picture.getpixel((0, 0)) == (0, 0, 9)
    files = [path for path in run.path.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_completions_and_clips_of_weights_and_biases(tmp_path: Path) -> None:
    options = {"mode": "offline", "settings": {"console": "off", "x_disable_stats": True}}
    config = tracking_config({"name": "wandb", "options": options})
    run = new_run(tmp_path / "red", config)
    write_steps(run, config, 0, 2, completions=True)
    ((folder,), media) = ([*(run.path / "wandb").glob("offline-run-*")], "files/media")
    history = read_history(folder)
    tables = [json.loads((folder / "files" / row["completions.path"]).read_text())
              for row in history if "completions.path" in row]  # fmt: skip
    assert [table["data"][0][1] for table in tables] == ["low at 0", "low at 2"]
    assert tables[0]["columns"] == ["prompt", "completion", "reward", "answer"]
    assert tables[0]["data"][1] == ["Which tone?", "a\nb|c", None, "low"]
    assert len([*(folder / media / "audio").iterdir()]) == 1


def test_a_run_of_mlflow_on_sqlite(tmp_path: Path) -> None:
    from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    options = {"tracking_uri": uri, "logging_dir": str(tmp_path / "artifacts")}
    config = tracking_config({"name": "mlflow", "project": "circles", "options": options})
    resumed(tmp_path / "red", config)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("circles")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("red", "FINISHED")
    assert run.data.params["training.learning_rate"] == "0.001"
    for name, expected in rows_sent(6).items():
        found = client.get_metric_history(run.info.run_id, name)
        assert [(metric.step, metric.value) for metric in found] == expected
    images = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
    pictures = [path for path in images if path.endswith(".png")]
    assert len(pictures) == 4 * len(PROMPTS)
    told = sorted(path.partition("step")[2].strip("+%")[:1] for path in pictures)
    assert told == sorted("0246" * len(PROMPTS))
    # A run that fails says so, and completions are files of its own.
    broken = new_run(tmp_path / "blue", config)
    with pytest.raises(RuntimeError), tracked(broken, config, ALONE):
        write_steps(broken, tracking_config(), 0, 2, completions=True)
        raise RuntimeError
    failed = next(one for one in client.search_runs([experiment.experiment_id]) if one != run)
    assert (failed.info.run_name, failed.info.status) == ("blue", "FAILED")
    paths = [
        file.path
        for folder in ("clips", "completions/step-000000", "completions/step-000002")
        for file in client.list_artifacts(failed.info.run_id, folder)
    ]
    assert paths == [
        "clips/0-0.flac",
        "completions/step-000000/base.jsonl",
        "completions/step-000002/final.jsonl",
    ]


def test_a_run_of_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    # It is read on importing, which TRL does, too.
    for name in [name for name in sys.modules if name.partition(".")[0] == "trackio"]:
        monkeypatch.delitem(sys.modules, name)
    from trackio import sqlite_storage, utils  # pyright: ignore[reportMissingImports]

    assert tmp_path / "trackio" == utils.TRACKIO_DIR
    options = {"auto_log_cpu": False, "auto_log_gpu": False}
    config = tracking_config({"name": "trackio", "project": "circles", "options": options})
    run = resumed(tmp_path / "red", config)
    storage = sqlite_storage.SQLiteStorage
    (name,) = storage.get_runs("circles")
    assert name.startswith("red-")
    assert name == json.loads((run.path / FILE).read_text())["trackio"]["identity"]
    logs = storage.get_logs("circles", name)
    for metric, expected in rows_sent(6).items():
        assert sorted((row["step"], row[metric]) for row in logs if metric in row) == expected
    shown = [row["samples/01"] for row in logs if "samples/01" in row]
    assert [picture["caption"] for picture in shown] == [PROMPTS[1]] * 4
    with Image.open(tmp_path / "trackio" / "media" / shown[1]["file_path"]) as picture:
        assert picture.convert("RGB").getpixel((0, 0)) == (2, 1, 9)
    with sqlite3.connect(tmp_path / "trackio" / "circles.db") as base:
        (text,) = base.execute("SELECT config FROM configs").fetchone()
    assert json.loads(text)["training.learning_rate"] == 1e-3
    # Another run of that name is another one.
    other = new_run(tmp_path / "other" / "red", config)
    write_steps(other, config, 0, 2, completions=True)
    (second,) = set(storage.get_runs("circles")) - {name}
    shown = [row for row in storage.get_logs("circles", second) if "completions" in row]
    texts = [row["completions"]["_value"][0]["completion"] for row in shown]
    assert texts == ["low at 0", "low at 2"]
    assert [row["step"] for row in shown if "clips/00" in row] == [0]

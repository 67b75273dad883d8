"""Code in files that a user may be handed: pickles in models, adapters and checkpoints, and the
modules that a model brings along. None of it is run."""

import importlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adrpo.audio.run import AudioRun
from adrpo.embedded.weights import weights_path
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.flow.domain import build_trainer
from adrpo.llm.run import LanguageRun
from adrpo.report import write_report
from adrpo.rewards.image import ClipScore
from adrpo.rewards.loading import build_reward
from adrpo.rewards.reward_model import RewardModel
from adrpo.runs.checkpoints import SEALED, TRANSFORMERS_STATE
from support.tiny_audio_runs import tiny_audio_config, write_thinker
from support.tiny_language_runs import tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS
from support.tiny_runs import tiny_config

pytestmark = LANGUAGE_MARKS

CODE = "from pathlib import Path\nPath({marker!r}).touch()\n"


AUTO = ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoModelForSequenceClassification")


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "code-was-run"


def plant(path: Path, marker: Path, *, zipped: bool) -> None:
    """A payload in torch's format, or as a bare pickle."""
    if zipped:
        torch.save({"weight": Payload(marker)}, path)
    else:
        # Protocol 2, which torch reads without a warning.
        path.write_bytes(pickle.dumps({"weight": Payload(marker)}, protocol=2))


def test_the_payload_works(marker: Path, tmp_path: Path):
    """Else the other tests would say nothing."""
    for zipped in (True, False):
        plant(tmp_path / "file", marker, zipped=zipped)
        assert not marker.exists()
        if zipped:
            torch.load(tmp_path / "file", weights_only=False)
        else:
            pickle.loads((tmp_path / "file").read_bytes())
        assert marker.exists()
        marker.unlink()


def a_pipeline(folder: Path) -> Callable[[], Any]:
    shutil.copytree(weights_path("pipeline"), folder)
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    config = tiny_config(model={"pretrained": str(folder)})
    return lambda: build_trainer(config).train(folder.with_name("run"), progress=False)


def a_language_model(folder: Path) -> Callable[[], Any]:
    write_material(folder.with_name("texts").parent)
    (folder.with_name("model")).rename(folder)
    (folder / "model.safetensors").unlink()
    config = tiny_language_config(folder.parent, model={"pretrained": str(folder), "device": "cpu"})
    return lambda: LanguageRun(config).train(folder.with_name("run"), progress=False)


def a_hearing_model(folder: Path) -> Callable[[], Any]:
    folder.mkdir()
    write_thinker(folder)
    (folder / "model.safetensors").unlink()
    config = tiny_audio_config(folder)
    return lambda: AudioRun(config).train(folder.with_name("run"), progress=False)


def a_clip(folder: Path) -> Callable[[], Any]:
    shutil.copytree(weights_path("reward_clip"), folder)
    (folder / "model.safetensors").unlink()
    return lambda: ClipScore(model=str(folder))


def a_reward_model(folder: Path) -> Callable[[], Any]:
    shutil.copytree(weights_path("language_reward"), folder)
    (folder / "model.safetensors").unlink()
    return lambda: RewardModel(model=str(folder))


MODELS = {
    "pipeline": (a_pipeline, "transformer/diffusion_pytorch_model.bin"),
    "language model": (a_language_model, "pytorch_model.bin"),
    "hearing model": (a_hearing_model, "pytorch_model.bin"),
    "CLIP": (a_clip, "pytorch_model.bin"),
    "reward model": (a_reward_model, "pytorch_model.bin"),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("zipped", [True, False], ids=["of torch", "bare"])
def test_weights_are_read_as_data(kind: str, zipped: bool, marker: Path, tmp_path: Path):
    make, name = MODELS[kind]
    load = make(tmp_path / "given")
    plant(tmp_path / "given" / name, marker, zipped=zipped)
    with pytest.raises(AdrpoError):
        load()
    assert not marker.exists()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language run that lacks its second step, of an earlier version: nothing is checked."""
    folder = write_material(tmp_path_factory.mktemp("stopped"))
    run = folder / "run"
    LanguageRun(two_steps(folder)).train(run, progress=False)
    shutil.rmtree(run / "final")
    shutil.rmtree(run / "checkpoints/checkpoint-2")
    (run / "manifest.json").unlink()
    (run / "checkpoints/checkpoint-1/manifest.json").unlink()
    state = run / "checkpoints/checkpoint-1" / TRANSFORMERS_STATE
    told = json.loads(state.read_text(encoding="utf-8"))
    del told[SEALED]
    state.write_text(json.dumps(told), encoding="utf-8")
    return folder


def two_steps(folder: Path) -> Any:
    return tiny_language_config(
        folder, training={"steps": 2}, evaluation={"every": 2}, checkpoint={"every": 1, "keep": 3}
    )


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_state_of_a_checkpoint_is_read_as_data(
    name: str, stopped: Path, marker: Path, tmp_path: Path
):
    shutil.copytree(stopped / "run", tmp_path / "run")
    plant(tmp_path / "run/checkpoints/checkpoint-1" / name, marker, zipped=True)
    with (
        pytest.warns(AdrpoWarning, match="earlier version"),
        pytest.raises(AdrpoError),
    ):
        LanguageRun(two_steps(stopped)).train(tmp_path / "run", resume=True, progress=False)
    assert not marker.exists()


def test_no_part_of_a_checkpoint_is_unpickled_beside(stopped: Path, marker: Path, tmp_path: Path):
    """training_args.bin, a pickle of transformers' own, is never read."""
    shutil.copytree(stopped / "run", tmp_path / "run")
    plant(tmp_path / "run/checkpoints/checkpoint-1/training_args.bin", marker, zipped=True)
    with pytest.warns(AdrpoWarning, match="earlier version"):
        LanguageRun(two_steps(stopped)).train(tmp_path / "run", resume=True, progress=False)
    assert (tmp_path / "run/final").is_dir()
    assert not marker.exists()


def test_an_adapter_is_read_as_data(marker: Path, tmp_path: Path):
    folder = write_material(tmp_path)
    adapter = {"rank": 2, "alpha": 2.0, "target_modules": ["q_proj"]}
    begun = tiny_language_config(folder, adapter=adapter, training={"steps": 1})
    LanguageRun(begun).train(folder / "run", progress=False)
    given = folder / "given"
    shutil.copytree(folder / "run/final", given)
    (given / "adapter_model.safetensors").unlink()
    plant(given / "adapter_model.bin", marker, zipped=True)
    config = tiny_language_config(folder, adapter=adapter | {"start_from": str(given)})
    with pytest.raises(AdrpoError):
        LanguageRun(config).train(folder / "other", progress=False)
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["language model", "hearing model", "reward model"])
def test_a_model_brings_no_code(kind: str, marker: Path, tmp_path: Path):
    """As a custom architecture on the Hub does: it is neither imported nor asked about."""
    load = MODELS[kind][0](tmp_path / "given")
    config = tmp_path / "given/config.json"
    told = json.loads(config.read_text(encoding="utf-8"))
    told |= {
        "model_type": "of_ones_own",
        "architectures": ["OwnModel"],
        "auto_map": {name: "own.OwnModel" for name in AUTO},
    }
    config.write_text(json.dumps(told), encoding="utf-8")
    (tmp_path / "given/own.py").write_text(CODE.format(marker=str(marker)), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.input", lambda *_: "y")
        with pytest.raises(AdrpoError, match="contains custom code"):
            load()
    assert not marker.exists()


@pytest.mark.parametrize("own", ["pipeline", "transformer", "scheduler"])
def test_a_pipeline_brings_no_code(own: str, marker: Path, tmp_path: Path):
    folder = tmp_path / "given"
    shutil.copytree(weights_path("pipeline"), folder)
    index = folder / "model_index.json"
    told = json.loads(index.read_text(encoding="utf-8"))
    told["_class_name" if own == "pipeline" else own] = ["own", "OwnPart"]
    index.write_text(json.dumps(told), encoding="utf-8")
    for place in (folder, folder / "transformer", folder / "scheduler"):
        (place / "own.py").write_text(CODE.format(marker=str(marker)), encoding="utf-8")
    config = tiny_config(model={"pretrained": str(folder)})
    with pytest.raises(AdrpoError):
        build_trainer(config)
    assert not marker.exists()


def test_a_report_imports_no_reward(stopped: Path, monkeypatch: pytest.MonkeyPatch):
    imported: list[str] = []
    original = importlib.import_module

    def noting(name: str, package: str | None = None) -> Any:
        imported.append(name)
        return original(name, package)

    monkeypatch.setattr(importlib, "import_module", noting)
    write_report(stopped / "run")
    assert not [name for name in imported if name.startswith("support")]
    build_reward(two_steps(stopped).reward, torch.device("cpu"))
    assert "support.tiny_language_runs" in imported

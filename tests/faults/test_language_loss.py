"""A loss or a gradient that is not finite ends a language run before it reaches a checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from adrpo.config import LanguageConfig
from adrpo.errors import AdrpoError
from adrpo.llm.run import LanguageRun
from adrpo.llm.trainer import ADRPOTrainer
from adrpo.runs.checkpoints import latest_checkpoint
from adrpo.runs.directory import RunDirectory
from support.tiny_language_runs import tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS
WRONG_STEP = 3

Fault = Callable[[Tensor, Any], Tensor]


def nan_loss(loss: Tensor, model: Any) -> Tensor:
    return loss * float("nan")


def infinite_loss(loss: Tensor, model: Any) -> Tensor:
    return loss + float("inf")


def nan_gradient(loss: Tensor, model: Any) -> Tensor:
    """The root's slope at 0 is infinite; the loss itself stays as it is."""
    return loss + sum((parameter * 0).sum().sqrt() for parameter in model.parameters())


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


def config(material: Path) -> LanguageConfig:
    return tiny_language_config(material, checkpoint={"every": 1, "keep": 1})


def add_fault(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    compute = ADRPOTrainer._compute_loss

    def faulty(trainer: ADRPOTrainer, model: Any, inputs: dict[str, Any]) -> Tensor:
        loss = compute(trainer, model, inputs)
        return fault(loss, model) if trainer.state.global_step == WRONG_STEP - 1 else loss

    monkeypatch.setattr(ADRPOTrainer, "_compute_loss", faulty)


@pytest.mark.parametrize("fault", [nan_loss, infinite_loss, nan_gradient])
def test_what_is_not_finite_ends_the_run_and_the_last_checkpoint_stays(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(AdrpoError) as caught:
        add_fault(patch, fault)
        LanguageRun(config(material)).train(folder, progress=False)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"step {WRONG_STEP}: expected a finite loss and gradient, received ")
    assert "nan" in message or "inf" in message
    assert "lower training.learning_rate" in message and "--resume" in message
    assert str(folder / "checkpoints") in message

    run = RunDirectory.open(folder)
    assert run.diverged_at() == WRONG_STEP
    assert [row["step"] for row in run.read_metrics()] == [1, 2]
    assert [path.name for path in run.checkpoints.glob("checkpoint-*")] == ["checkpoint-2"]
    checkpoint = latest_checkpoint(run)
    assert checkpoint is not None
    assert all(t.isfinite().all() for t in load_file(checkpoint / "model.safetensors").values())
    optimizer = torch.load(checkpoint / "optimizer.pt", weights_only=True)["state"]
    assert all(state["exp_avg_sq"].isfinite().all() for state in optimizer.values())


def test_the_run_goes_on_from_it(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the weights of a run that never had the fault."""
    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(AdrpoError):
        add_fault(patch, nan_gradient)
        LanguageRun(config(material)).train(folder, progress=False)
    LanguageRun(config(material)).train(folder, resume=True, progress=False)
    assert RunDirectory.open(folder).diverged_at() is None
    whole = LanguageRun(config(material)).train(tmp_path / "whole", progress=False)
    received, expected = (
        (path / "final/model.safetensors").read_bytes() for path in (folder, whole)
    )
    assert received == expected

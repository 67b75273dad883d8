"""Weights of a run before its end: each checkpoint has them, and commands take them by --step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from adrpo.cli.domains import door_of
from adrpo.cli.train import _how_to_resume
from adrpo.errors import AdrpoError
from adrpo.evaluation.targets import Target, evaluate_target
from adrpo.flow.models.lora import WEIGHTS_NAME
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.llm.run import LanguageRun
from adrpo.runs.checkpoints import latest_checkpoint, load_checkpoint, steps_with_weights
from adrpo.runs.directory import RunDirectory
from adrpo.runs.manifest import FILE
from support.tiny_language_runs import share_of_a, tiny_language_config, write_material
from support.tiny_language_trainers import LANGUAGE_MARKS
from support.tiny_runs import darkness, tiny_config

pytestmark = LANGUAGE_MARKS

STEPS, STOPPED = 4, 3


def stopping(reward: Callable[..., Any], after: int) -> Callable[..., Any]:
    """``reward``, until Ctrl-C is pressed in its call number ``after`` + 1."""
    calls = 0

    def scored(*arguments: Any, **columns: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise KeyboardInterrupt
        return reward(*arguments, **columns)

    return scored


def flow_run(folder: Path, _: Path, *, stopped: bool) -> Any:
    config = tiny_config(training={"steps": STEPS, "learning_rate": 0.01, "ema_decay": 0.5})
    # A trial, the base, two steps, an evaluation, and the step that is not finished.
    reward = stopping(darkness, 5) if stopped else darkness
    return lambda: FlowTrainer(config, reward=reward).train(folder, progress=False)


def language_run(folder: Path, material: Path, *, stopped: bool) -> Any:
    config = tiny_language_config(
        material, adapter={"rank": 4, "alpha": 8.0}, training={"steps": STEPS}
    )
    reward = stopping(share_of_a, 5) if stopped else share_of_a
    return lambda: LanguageRun(config, reward=reward).train(folder, progress=False)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("material"))


@pytest.mark.parametrize("train", [flow_run, language_run], ids=["flow", "llm"])
def test_a_step_is_measured_again_as_training_measured_it(
    train: Any, material: Path, tmp_path: Path
) -> None:
    run = train(tmp_path / "run", material, stopped=False)()
    rows = {row["step"]: row for row in RunDirectory.open(run).read_evaluations("unseen")}
    same = "divergence" if train is flow_run else "kl"
    own = darkness if train is flow_run else share_of_a
    # It was given in Python, and is named here.
    named = [f"reward=[{{name: {own.__module__}:{own.__name__}}}]"]
    for step in (2, STEPS):
        target = Target.resolve(str(run), door_of, step=step, overrides=named)
        row = evaluate_target(target, tmp_path / f"evaluation-{step}")
        assert row["step"] == step
        assert row[same] == rows[step][same] != 0
    assert rows[2][same] != rows[STEPS][same]
    base = Target.resolve(str(run), door_of, step=0)
    assert (base.final, base.step) == (None, 0)
    with pytest.raises(AdrpoError, match=r"received 3; there are (0, )?2, 4 \("):
        Target.resolve(str(run), door_of, step=3)
    with pytest.raises(AdrpoError, match="leave --step out"):
        Target.resolve("embedded", door_of, step=2)


@pytest.mark.parametrize("train", [flow_run, language_run], ids=["flow", "llm"])
def test_a_run_that_was_interrupted_has_weights(train: Any, material: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", material, stopped=True)()
    run = tmp_path / "run"
    with pytest.raises(AdrpoError, match=r"expected a finished run .* by --step: (0, )?2$"):
        Target.resolve(str(run), door_of)
    target = Target.resolve(str(run), door_of, step=2)
    drawn = target.door.sample(
        target.config, target.final, ["a b"], size=1, seed=0, output_dir=tmp_path / "drawn"
    )
    assert len(list(drawn)) == 1


def test_the_weights_of_a_checkpoint_are_what_would_be_kept(tmp_path: Path) -> None:
    """The average, where there is one, and not the adapter that goes on training."""
    run = RunDirectory.open(flow_run(tmp_path / "run", tmp_path, stopped=False)())
    checkpoint = latest_checkpoint(run)
    assert checkpoint is not None
    written, final = (load_file(place / WEIGHTS_NAME) for place in (checkpoint, run.final))
    assert all(torch.equal(written[name], final[name]) for name in final)
    adapter = load_checkpoint(checkpoint)["adapter"]
    assert any(not torch.equal(written[f"transformer.{name}"], adapter[name]) for name in adapter)
    file = checkpoint / WEIGHTS_NAME
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(AdrpoError, match=f"{WEIGHTS_NAME}: expected sha256"):
        load_checkpoint(checkpoint)


def test_half_a_checkpoint_is_not_drawn_with(tmp_path: Path) -> None:
    """Neither by --step, nor by the line that Ctrl-C leaves."""
    (tmp_path / "config.yaml").write_text("domain: flow\n", encoding="utf-8")
    for step in (2, 4, 6):
        folder = tmp_path / "checkpoints" / f"step-{step:06d}"
        folder.mkdir(parents=True)
        (folder / WEIGHTS_NAME).touch()
    assert "adrpo sample" not in _how_to_resume(tmp_path, ["train", "recipe"])
    for step in (2, 4):
        (tmp_path / "checkpoints" / f"step-{step:06d}" / FILE).touch()
    assert steps_with_weights(tmp_path).keys() == {2, 4}
    said = _how_to_resume(tmp_path, ["train", "recipe"])
    assert said.endswith(f"; to draw with its weights: adrpo sample {tmp_path} --step 4")

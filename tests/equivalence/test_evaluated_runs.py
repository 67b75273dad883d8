"""``adrpo evaluate RUN`` measures the model that training left, and its base."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from adrpo.config import AdapterSection, FlowModelSection
from adrpo.embedded.scenes import parse_caption, split_of
from adrpo.evaluation.values import read_values, values_path
from adrpo.flow.models.loading import load_policy
from adrpo.flow.models.lora import WEIGHTS_NAME
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.runs.directory import RunDirectory
from support.command_line import Command
from support.strict_page import Page
from support.tiny_runs import perturb, tiny_config

STEPS = 2


def trained(folder: Path, **sections: dict[str, Any]) -> RunDirectory:
    """A run whose evaluation takes three batches, with steps that change what is drawn."""
    config = tiny_config(
        training={"steps": STEPS, "learning_rate": 0.01},
        evaluation={"batch_size": 3, "every": STEPS},
        **sections,
    )
    assert config.prompts.held_out_size * config.evaluation.samples_per_prompt > 2 * 3
    return RunDirectory.open(FlowTrainer(config).train(folder, progress=False))


def evaluated(command: Command, run: RunDirectory, folder: Path) -> RunDirectory:
    assert command("evaluate", str(run.path), "--output-dir", str(folder)) == 0, command.err
    return RunDirectory.open(folder)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_is_measured_again_as_its_training_measured_it(
    dtype: str, command: Command, tmp_path: Path
) -> None:
    """The base without the adapter in every batch, the policy with the adapter of training."""
    run = trained(tmp_path / "run", model={"dtype": dtype})
    again = evaluated(command, run, tmp_path / "evaluation")
    for step in (0, STEPS):
        ours, theirs = (read_values(values_path(here, step)) for here in (again, run))
        for name in theirs:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=f"{name} of {step}")
    base, last = again.read_evaluations()
    assert [base, last] == [row | {"target": str(run.path)} for row in run.read_evaluations()]
    assert base["divergence"] == 0
    assert last["divergence_change"] == last["divergence"] > 0
    # Its page is written with it, says what was measured, and trains nothing.
    page = Page(again.report)
    assert f"Measured{run.path}" in page.text and "repeats the run" not in page.text
    assert "Where the time goes" not in page.text


def test_a_run_is_measured_on_prompts_that_no_choice_has_seen(
    command: Command, tmp_path: Path
) -> None:
    run = trained(tmp_path / "run")
    options = ["--prompts", "scenes:test", "--output-dir", str(tmp_path / "evaluation")]
    assert command("evaluate", str(run.path), *options) == 0, command.err
    base, last = RunDirectory.open(tmp_path / "evaluation").read_evaluations()
    assert base["prompts"] == last["prompts"] == 4 and last["divergence"] > 0
    for folder, split in ((run.path, "held_out"), (tmp_path / "evaluation", "test")):
        listing = json.loads((folder / "samples/prompts.json").read_text(encoding="utf-8"))
        texts = [item["prompt"] for item in listing["held_out"]]
        assert {split_of(parse_caption(text)) for text in texts} == {split}


@pytest.mark.parametrize("form", ["peft", "diffusers"])
def test_an_adapter_keeps_its_digits_on_a_base_of_sixteen_bits(form: str, tmp_path: Path) -> None:
    """Under the names that ``save_adapter`` writes, and those of older scripts of diffusers."""
    trained = load_policy(FlowModelSection(dtype="bfloat16"))
    trained.add_adapter(AdapterSection())
    perturb(trained)  # type: ignore[arg-type]
    trained.save_adapter(tmp_path)
    if form == "diffusers":
        state = load_file(tmp_path / WEIGHTS_NAME)
        save_file(
            {
                name.replace("lora_A", "lora.down").replace("lora_B", "lora.up"): value
                for name, value in state.items()
            },
            tmp_path / WEIGHTS_NAME,
        )
    loaded = load_policy(FlowModelSection(dtype="bfloat16"))
    loaded.load_adapter(tmp_path)
    state, expected = loaded.adapter_state(), trained.adapter_state()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert any((value != value.bfloat16()).any() for value in expected.values())

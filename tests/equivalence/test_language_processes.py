"""ADRPOTrainer on two processes, under the engines that TRL's trainers run under."""

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from support.started_processes import TESTS, launch
from support.tiny_language_model import save_tiny_model

ENGINES = {
    "ddp": ("ddp.yaml", "MULTI_CPU"),
    "lora": ("ddp.yaml", "MULTI_CPU"),
    "fsdp2": ("fsdp2.yaml", "FSDP"),
    "zero3": ("deepspeed-zero3.yaml", "DEEPSPEED"),
}
"""Engine -> its configuration, and what accelerate calls it."""


BY_DEEPSPEED = (
    pytest.mark.deepspeed,
    pytest.mark.skipif(
        find_spec("deepspeed") is None and "ADRPO_EXPECT_DEEPSPEED" not in os.environ,
        reason="trains by it: make test-deepspeed",
    ),
)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=BY_DEEPSPEED if name == "zero3" else pytest.mark.slow)
        for name in ENGINES
    ],
)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of tests/language_processes.py after both processes trained all its variants."""
    engine: str = request.param
    configuration, name = ENGINES[engine]
    folder = tmp_path_factory.mktemp(engine)
    save_tiny_model(folder / "model")
    script = TESTS / "support" / "language_processes.py"
    # DeepSpeed's own choice among the accelerators it finds.
    result = launch(configuration, script, folder, engine, DS_ACCELERATOR="cpu")
    assert result.returncode == 0, result.stderr
    assert (folder / "engine.txt").read_text() == name
    return folder


def weights(run: Path, name: str) -> dict[str, Tensor]:
    return torch.load(run / f"{name}.pt", weights_only=True)


def equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in theirs)


def test_a_constant_coefficient_is_stock_grpo_bit_for_bit(run: Path):
    assert equal(weights(run, "fixed"), weights(run, "stock"))
    # The comparison can fail: another coefficient is another model.
    assert not equal(weights(run, "needed"), weights(run, "stock"))


def test_rows_without_a_reference_change_nothing(run: Path):
    assert equal(weights(run, "needed"), weights(run, "all"))


def test_groups_on_both_processes_have_one_mean(run: Path):
    """The coefficients of eq. 7 with A = r - mean(r) over the whole group, process by process."""
    parts: list[list[dict[str, Any]]] = [
        json.loads((run / f"scored-{rank}.json").read_text()) for rank in range(2)
    ]
    clipped = graded = False
    for first, second in zip(*parts, strict=True):
        assert first["rewards"] == second["rewards"]
        rewards = torch.tensor(first["rewards"], dtype=torch.float64)
        advantages = (rewards - rewards.mean()).clamp(-0.04, 0.04)
        received = torch.tensor(first["coefficients"] + second["coefficients"]).double()
        # The mean of float32 rewards of size 0.1.
        torch.testing.assert_close(received, 0.04 - advantages, rtol=0, atol=1e-7)
        clipped |= bool((advantages == 0.04).any())
        graded |= bool((advantages.abs() < 0.04).logical_and(advantages != 0).any())
    assert clipped and graded, "the rewards reach only one side of the clip: give others"


def test_rows_are_left_out_where_processes_may_differ(run: Path):
    """Under FSDP and ZeRO all processes make the same network calls, so that no row is."""
    engine = (run / "engine.txt").read_text()
    left_out = False
    for rank in range(2):
        for batch in json.loads((run / f"scored-{rank}.json").read_text()):
            needed = [coefficient != 0 for coefficient in batch["coefficients"]]
            left_out |= not all(batch["reference_rows"])
            if engine == "MULTI_CPU":
                assert [bool(row) for row in batch["reference_rows"]] == needed
    assert left_out == (engine == "MULTI_CPU")

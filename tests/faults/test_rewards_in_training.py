"""Rewards that fail while training: some samples, all samples, the wrong number of values."""

import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from adrpo.errors import AdrpoError
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.runs.directory import RunDirectory
from support.tiny_runs import broken, darkness, one_short, tiny_config


def test_unscored_samples_are_left_out_and_counted(tmp_path: Path):
    def patchy(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
        values = darkness(prompts, images)
        return [None, math.nan, *values[2:]]

    run = FlowTrainer(tiny_config(training={"steps": 1}), reward=patchy).train(
        tmp_path / "run", progress=False
    )
    row = RunDirectory.open(run).read_metrics()[0]
    # Two of the six samples, both of the first group.
    assert (row["samples"], row["samples_excluded"]) == (6, 2)
    assert math.isfinite(row["loss"]) and math.isfinite(row["reward_mean"])


def test_a_reward_that_raises_for_one_image_costs_one_sample(tmp_path: Path):
    calls = []

    def fussy(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
        calls.append(len(images))
        if len(images) != 1 or calls.count(1) == 3:
            raise RuntimeError("can't look at this")
        return darkness(prompts, images)

    trainer = FlowTrainer(tiny_config(training={"steps": 1}), reward=fussy)
    assert trainer.step(1)["samples_excluded"] == 1


def test_a_step_without_any_score_stops_with_the_last_checkpoint_kept(tmp_path: Path):
    steps = iter(range(100))

    def dying(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
        # Call 0 is the base's evaluation, 1 and 2 are steps, 3 the evaluation after step 2.
        if next(steps) >= 4:
            raise RuntimeError("the judge is away")
        return darkness(prompts, images)

    run = tmp_path / "run"
    trainer = FlowTrainer(tiny_config(), reward=dying)
    with pytest.raises(AdrpoError) as caught:
        trainer.train(run, progress=False)
    message = str(caught.value)
    assert "step 3: the reward scored none of 6 samples" in message
    assert "the judge is away" in message and "step-000002 is kept" in message
    assert "\n" not in message
    assert [row["step"] for row in RunDirectory.open(run).read_metrics()] == [1, 2]
    assert (run / "checkpoints" / "step-000002" / "state.pt").is_file()

    resumed = FlowTrainer(tiny_config(), reward=darkness).train(run, resume=True, progress=False)
    assert [row["step"] for row in RunDirectory.open(resumed).read_metrics()] == [1, 2, 3, 4]


def test_a_reward_that_always_raises_stops_before_the_first_update(tmp_path: Path):
    trainer = FlowTrainer(tiny_config(), reward=broken)
    with pytest.raises(AdrpoError, match=r"scored none of 6 samples.*the judge is away"):
        trainer.train(tmp_path / "run", progress=False)


def test_the_wrong_number_of_values_is_an_error(tmp_path: Path):
    trainer = FlowTrainer(tiny_config(), reward=one_short)
    with pytest.raises(AdrpoError, match="one_short"):
        trainer.train(tmp_path / "run", progress=False)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path):
    trainer = FlowTrainer(tiny_config(training={"learning_rate": 1e30}), reward=darkness)
    message = r"step 2: expected finite.*training\.learning_rate.*; step-000000 is kept"
    with pytest.raises(AdrpoError, match=message):
        trainer.train(tmp_path / "run", progress=False)

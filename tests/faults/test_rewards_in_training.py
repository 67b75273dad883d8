"""Rewards that fail while training: some samples, all samples, the wrong number of values."""

import asyncio
import io
import itertools
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adrpo.errors import AdrpoError
from adrpo.flow.domain import build_trainer
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.report import write_report
from adrpo.rewards import Reward
from adrpo.rewards.base import Scores
from adrpo.runs.directory import RunDirectory
from adrpo.runs.seeding import seed_everything
from support.tiny_runs import (
    adapter_bytes,
    broken,
    darkness,
    metrics_without_timings,
    moody,
    one_short,
    tiny_config,
)


def test_unscored_samples_are_left_out_and_counted(tmp_path: Path):
    given: list[list[Any]] = []

    def patchy(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
        values = darkness(prompts, images)
        given.append(values[2:])
        return [None, math.nan, *values[2:]]

    config = tiny_config(
        training={"steps": 1},
        algorithm={"advantage_clip": [-1e-4, 1e-4]},
    )
    run = FlowTrainer(config, reward=patchy).train(tmp_path / "run", progress=False)
    row = RunDirectory.open(run).read_metrics()[0]
    # Two of the six samples, both of the first group.
    assert (row["samples"], row["samples_excluded"]) == (6, 2)
    assert math.isfinite(row["loss"])
    # The trial, the base's evaluation, the step: one score of the first group, three of the second.
    alone, *others = given[2]
    assert row["reward_mean"] == pytest.approx((alone + sum(others)) / 4, rel=1e-6)
    beyond = [abs(value - sum(others) / 3) > 1e-4 for value in others]
    assert row["advantage_clipped_fraction"] == sum(beyond) / 4 > 0


def test_a_reward_that_raises_for_one_image_costs_one_sample():
    calls = []

    def fussy(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
        calls.append(len(images))
        if len(images) != 1 or calls.count(1) == 3:
            raise RuntimeError("can't look\nat this")
        return darkness(prompts, images)

    row = FlowTrainer(tiny_config(training={"steps": 1}), reward=fussy).step(1)
    assert row["samples_excluded"] == 1
    assert row["reward_error"].startswith("fussy: RuntimeError: can't look at this (")


def test_a_step_without_any_score_stops_with_the_last_checkpoint_kept(tmp_path: Path):
    steps, away = iter(range(100)), True

    def dying(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
        # Call 0 is a trial, 1 the base's evaluation, 2 and 3 steps, 4 the evaluation after step 2.
        if away and next(steps) >= 5:
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

    away = False
    resumed = FlowTrainer(tiny_config(), reward=dying).train(run, resume=True, progress=False)
    assert [row["step"] for row in RunDirectory.open(resumed).read_metrics()] == [1, 2, 3, 4]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path):
    trainer = FlowTrainer(tiny_config(training={"learning_rate": 1e30}), reward=darkness)
    message = r"step 2: expected finite.*training\.learning_rate.*; step-000000 is kept"
    with pytest.raises(AdrpoError, match=message):
        trainer.train(tmp_path / "run", progress=False)
    assert RunDirectory.open(tmp_path / "run").diverged_at() == 2


def narrow(prompts: list[str], images: list[Image.Image]) -> list[float | None]:
    return darkness(prompts, images)


def unscored_at(call: int) -> Reward:
    """A reward whose ``call``-th call, counted from 1, finds no score for any sample."""
    calls = itertools.count(1)

    def reward(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
        return [None] * len(images) if next(calls) == call else darkness(prompts, images)

    return reward


METHODS: dict[str, dict[str, Any]] = {
    "adrpo": {"target_divergence": 0.01, "allow_negative_beta": True, "anchor": "ema"},
    "diffusion_nft": {},
    "flow_grpo": {},
    "fdfo": {"beta_0": 0.5, "coefficient": {"schedule": "adaptive"}, "advantage_scale": "batch"},
}


@pytest.mark.parametrize("method", METHODS)
def test_a_step_without_any_score_moves_nothing(method: str, tmp_path: Path):
    """A method's own state, the optimizer's moments and the average, too: momentum would move the
    adapter, and so would the divergence term alone."""
    settings = tiny_config(
        algorithm={"method": method, **METHODS[method]},
        # Six samples a step, in pairs.
        training={"ema_decay": 0.5, "prompts_per_step": 3, "samples_per_prompt": 2},
    )
    trainer = build_trainer(settings, reward=unscored_at(2))

    def state() -> bytes:
        file = io.BytesIO()
        average = trainer.average
        assert average is not None
        parts = (trainer.policy.adapter_state(), trainer.optimizer.state_dict()["state"],
                 average.state(), trainer.trainer_state())  # fmt: skip
        torch.save(parts, file)
        return file.getvalue()

    rows = [trainer.step(1)]
    before = state()
    rows.append(trainer.step(2))
    assert state() == before
    rows.append(trainer.step(3))
    assert state() != before
    assert [row["samples_excluded"] for row in rows] == [0, 6, 0]
    # The same columns, so that a table of the run has no holes.
    assert rows[1].keys() == rows[0].keys()
    empty = {name for name, value in rows[1].items() if value is None or math.isnan(value)}
    assert {"reward_mean", "reward_std", "reward_reward_mean", "loss", "divergence"} <= empty
    full = {name for name, value in rows[0].items() if value is None or math.isnan(value)}
    assert full == set()


def test_the_learning_rate_moves_on_in_a_step_without_any_score():
    settings = tiny_config(training={"learning_rate_schedule": "linear", "learning_rate": 4e-4})
    trainer = FlowTrainer(settings, reward=unscored_at(1))
    # To 0 after the last of four steps; the first has no score, and no optimizer step before it.
    rates = [trainer.step(step)["learning_rate"] for step in (1, 2, 3, 4)]
    assert rates == pytest.approx([3e-4, 2e-4, 1e-4, 0], abs=1e-12)


def test_a_run_goes_on_after_a_step_without_any_score_and_resumes(tmp_path: Path):
    # A trial, the base's evaluation, two steps, the evaluation after step 2, then step 3.
    whole = FlowTrainer(tiny_config(), reward=unscored_at(6)).train(
        tmp_path / "whole", progress=True
    )
    rows = RunDirectory.open(whole).read_metrics()
    assert [row["samples_excluded"] for row in rows] == [0, 0, 6, 0]
    assert rows[2]["reward_mean"] is rows[2]["beta_mean"] is rows[2]["loss"] is None
    assert "<svg" in write_report(whole).read_text(encoding="utf-8")

    folder = tmp_path / "resumed"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "checkpoints" / "step-000004")
    FlowTrainer(tiny_config(), reward=unscored_at(1)).train(folder, resume=True, progress=False)
    assert metrics_without_timings(folder) == metrics_without_timings(whole)
    assert adapter_bytes(folder) == adapter_bytes(whole)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (broken, "broken: RuntimeError: the judge is away"),
        (one_short, "reward 'one_short': expected 4 values, one per sample, received 3"),
        (
            narrow,
            "received one that does not (got an unexpected keyword argument 'category'); end ",
        ),
    ],
)
def test_what_is_wrong_with_a_reward_is_one_line_before_the_first_update(
    reward: Any, message: str, tmp_path: Path
):
    trainer = FlowTrainer(tiny_config(), reward=reward)
    with pytest.raises(AdrpoError) as caught:
        trainer.train(tmp_path / "run", progress=False)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_async_reward_trains_as_the_same_function_does(tmp_path: Path):
    async def waiting(prompts: list[str], images: list[Image.Image], **_: Any) -> Scores:
        await asyncio.sleep(0)
        return darkness(prompts, images)

    def at_once(prompts: list[str], images: list[Image.Image], **_: Any) -> Scores:
        return darkness(prompts, images)

    rows = [FlowTrainer(tiny_config(), reward=reward).step(1) for reward in (waiting, at_once)]
    assert rows[0]["reward_waiting_mean"] == rows[1]["reward_at_once_mean"] > 0
    assert rows[0]["loss"] == rows[1]["loss"]


def test_pairs_that_a_broken_reward_could_not_draw_name_its_error(tmp_path: Path):
    trainer = build_trainer(tiny_config(algorithm={"method": "dpo"}), reward=broken)
    with pytest.raises(AdrpoError, match=r"^pairs: .*broken: RuntimeError: the judge is away"):
        trainer.train(tmp_path / "run", progress=False)


def test_pairs_of_a_reward_that_draws_are_the_same_again(tmp_path: Path):
    """Whatever the global generators were before, and without a change to them."""
    listings = []
    for name in ("first", "second"):
        trainer = build_trainer(tiny_config(algorithm={"method": "dpo"}), reward=moody)
        run = RunDirectory.create(tmp_path / name, "")
        seed_everything(len(listings))
        # Python's own moves by the shape checks of the suite.
        numpy, torchs = np.random.get_state(legacy=True), torch.get_rng_state()
        trainer.prepare(run)
        np.testing.assert_equal(np.random.get_state(legacy=True), numpy)
        assert torch.equal(torch.get_rng_state(), torchs)
        images = sorted((tmp_path / name / "pairs").glob("*.png"))
        listings.append([(image.name, image.read_bytes()) for image in images])
    assert listings[0] == listings[1]


def test_a_reward_is_tried_before_the_base_is_drawn(tmp_path: Path):
    """A reward that raises is asked for a few images, and then each alone; none is evaluated, and
    the folder is free for the reward that is mended."""
    asked: list[int] = []

    def absent(prompts: list[str], images: list[Any], **_: Any) -> list[float]:
        asked.append(len(images))
        raise RuntimeError("no such server")

    config = tiny_config(training={"steps": 1})
    with pytest.raises(AdrpoError, match=r"reward: .*absent.* 4 samples .*no such server .*line"):
        FlowTrainer(config, reward=absent).train(tmp_path / "run", progress=False)
    assert asked == [4, 1, 1, 1, 1]
    assert not (tmp_path / "run").exists()
    FlowTrainer(config, reward=darkness).train(tmp_path / "run", progress=False)


def test_a_run_tells_that_its_advantages_are_far_below_the_clip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """While it trains, and again in its report."""

    def faint(prompts: list[str], images: list[Any], **_: Any) -> list[float]:
        return [float(value or 0) / 1000 for value in darkness(prompts, images)]

    config = tiny_config(training={"steps": 1})
    run = FlowTrainer(config, reward=faint).train(tmp_path / "run")
    told = "steps 1 to 1: advantages had a spread of"
    assert told in capsys.readouterr().out
    assert told in write_report(run).read_text(encoding="utf-8")

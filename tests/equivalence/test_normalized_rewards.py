"""Rewards whose terms are normalised, in the trainers of images: what learns from them, what a stop
keeps, what stays the plain sum, and where they have no meaning."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from adrpo.config import FlowConfig
from adrpo.errors import AdrpoError
from adrpo.evaluation.values import read_values, values_path
from adrpo.flow.domain import build_trainer
from adrpo.runs.directory import RunDirectory
from support.refused_configurations import refusal, write
from support.tiny_runs import (
    adapter_bytes,
    darkness,
    metrics_without_timings,
    tiny_config,
    whole_and_resumed,
)

TERMS = [
    {"name": "support.tiny_runs:darkness", "weight": 0.1},
    {"name": "jpeg_size", "weight": -2.0, "logistic": {"location": 1.0, "scale": 0.1}},
]
METHODS: list[dict[str, Any]] = [
    {"method": "adrpo", "anchor": "ema"}, {"method": "raft"}, {"method": "flow_grpo"},
    {"method": "fdfo"},
]  # fmt: skip


def config(method: str = "adrpo", normalization: str = "running", **training: Any) -> FlowConfig:
    (algorithm,) = [settings for settings in METHODS if settings["method"] == method]
    # FDFO's samples come in pairs.
    each = 2 if method == "fdfo" else 3
    return tiny_config(
        algorithm=algorithm,
        reward=TERMS,
        sampling={"steps": 3},
        training={"samples_per_prompt": each, "reward_normalization": normalization, **training},
    )


@pytest.mark.parametrize("method", [settings["method"] for settings in METHODS])
def test_a_stopped_run_goes_on_with_its_running_statistics(method: str, tmp_path: Path) -> None:
    own: Any = None  # the configuration's reward
    whole, resumed = whole_and_resumed(config(method), own, tmp_path)
    rows = metrics_without_timings(tmp_path / "whole")
    assert metrics_without_timings(tmp_path / "stopped") == rows
    assert adapter_bytes(tmp_path / "stopped") == adapter_bytes(tmp_path / "whole")
    states = [json.dumps(each.trainer_state()["reward_moments"]) for each in (whole, resumed)]
    assert states[0] == states[1]
    moments = json.loads(states[0])
    assert moments["count"] == sum(row["samples"] for row in rows)
    # The mean over the run is that of the steps, the second term's after its logistic function.
    means = [row["reward_darkness_mean"] for row in rows]
    assert moments["mean"][0] == pytest.approx(sum(means) / len(means), rel=1e-6)
    assert 0 < moments["mean"][1] < 1


@pytest.mark.parametrize("normalization", ["group", "running"])
def test_what_is_logged_and_evaluated_is_the_plain_sum(normalization: str, tmp_path: Path) -> None:
    folders = {}
    for name in ("none", normalization):
        folders[name] = build_trainer(config(normalization=name, steps=1)).train(
            tmp_path / name, progress=False
        )
    rows = {name: metrics_without_timings(folder)[0] for name, folder in folders.items()}
    for column in ("reward_mean", "reward_std", "reward_darkness_mean", "reward_jpeg_size_mean"):
        assert rows[normalization][column] == rows["none"][column]
    assert rows[normalization]["loss"] != rows["none"]["loss"]
    values = [
        read_values(values_path(RunDirectory.open(folder), 0, "unseen"))
        for folder in folders.values()
    ]
    assert all((values[0][name] == values[1][name]).all() for name in ("reward", "darkness"))
    sizes = torch.as_tensor(values[0]["jpeg_size"])
    expected = 0.1 * torch.as_tensor(values[0]["darkness"]) - 2 * ((sizes - 1) / 0.1).sigmoid()
    torch.testing.assert_close(torch.as_tensor(values[0]["reward"]), expected, rtol=1e-5, atol=1e-5)


def test_the_best_of_a_group_is_that_of_the_normalised_sum() -> None:
    trainer: Any = build_trainer(config("raft", "group"))
    scored, weigh, seen = trainer.scored, trainer.method.weigh, []
    trainer.scored = lambda *given: seen.append(scored(*given)) or seen[-1]
    trainer.method.weigh = lambda *given: seen.extend([given[0], weigh(*given)]) or seen[-1]
    trainer.step(1)
    result, rewards, weights = seen
    dark, small = (result.by_term[name].double().view(2, 3) for name in ("darkness", "jpeg_size"))
    small = 1 / (1 + torch.exp(-(small - 1) / 0.1))
    dark, small = (
        (z - z.mean(1, True)) / z.std(1, correction=0, keepdim=True) for z in (dark, small)
    )
    expected = 0.1 * dark - 2 * small
    # float32, and a logistic function near its end.
    torch.testing.assert_close(rewards.view(2, 3).double(), expected, rtol=1e-3, atol=1e-3)
    assert weights.weight.view(2, 3).argmax(1).tolist() == expected.argmax(1).tolist()
    assert int((weights.weight > 0).sum()) == 2


GATE = (
    "algorithm: {coefficient: {schedule: gated, scores: [{name: jpeg_size}]}}\n"
    "training: {reward_normalization: group}"
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "algorithm: {method: dpo, pairs: folder}\ntraining: {reward_normalization: group}",
            "training.reward_normalization: expected none with algorithm.pairs, whose images no "
            "reward has put in order; received group",
        ),
        (
            "algorithm: {method: dpo}\ntraining: {reward_normalization: running}",
            "training.reward_normalization: expected none or group with algorithm.method=dpo, "
            "whose pairs are drawn before the run; received running",
        ),
        (
            GATE,
            "training.reward_normalization: expected none or running with the schedule gated, "
            "which ranks the samples of all prompts by their reward; received group",
        ),
        (
            "training: {reward_normalization: batch}",
            "training.reward_normalization: expected 'none', 'group' or 'running', received "
            "'batch'",
        ),
    ],
)
def test_it_is_refused_where_it_has_no_meaning(text: str, line: str, tmp_path: Path) -> None:
    assert refusal(write(tmp_path, f"domain: flow\n{text}\n")) == f"recipe.yaml: {line}"


def test_a_callable_in_the_place_of_the_reward_is_normalised_too(tmp_path: Path) -> None:
    trainer: Any = build_trainer(config(normalization="group"), reward=darkness)
    assert trainer.step(1)["reward_mean"] > 1
    assert trainer.normalizer.terms == trainer.reward


def test_a_sample_without_a_score_stays_without_one() -> None:
    def some(prompts: list[str], images: list[Any], **_: Any) -> list[float | None]:
        return [None, *darkness(prompts, images)[1:]]

    trainer: Any = build_trainer(config(steps=1), reward=some)
    row = trainer.step(1)
    assert row["samples_excluded"] == 1 and row["reward_mean"] > 1
    assert trainer.trainer_state()["reward_moments"]["count"] == row["samples"] - 1


def test_a_reward_that_is_away_is_told_as_ever(tmp_path: Path) -> None:
    def away(prompts: list[str], images: list[Any], **_: Any) -> list[float | None]:
        raise RuntimeError("the judge is away")

    with pytest.raises(AdrpoError, match="the judge is away"):
        build_trainer(config(), reward=away).train(tmp_path / "run", progress=False)

"""Schedules of the coefficient in the trainers: which samples are held, and what a stop keeps."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from adrpo.coefficient import Coefficient
from adrpo.config import AdrpoSection, FlowGrpoSection
from adrpo.core.schedules import StepSamples
from adrpo.errors import AdrpoError
from adrpo.flow import FlowGRPOTrainer, FlowTrainer
from adrpo.flow.domain import build_trainer
from adrpo.flow.methods import Weights, build_method
from adrpo.flow.training.stopwatch import Stopwatch
from support.tiny_runs import (
    adapter_bytes,
    darkness,
    metrics_without_timings,
    perturb,
    tiny_config,
    whole_and_resumed,
)

CLIP = {"name": "clip_score", "options": {"model": "embedded"}}
GATED = {"schedule": "gated", "scores": [CLIP], "share": 0.2}
SETTINGS: list[dict[str, Any]] = [
    {"method": "adrpo", "coefficient": GATED, "advantage_scale": "batch"},
    {"method": "awm", "beta_0": 0.3, "coefficient": {"schedule": "adaptive"}, "anchor": "ema"},
    {
        "method": "flow_grpo",
        "beta_0": 0.3,
        "anchor": "ema",
        "coefficient": {
            "schedule": "mixture",
            "parts": [{"coefficient": GATED}, {"coefficient": {"schedule": "adaptive"}}],
        },
    },
    {"method": "fdfo", "beta_0": 0.3, "anchor": "ema", "coefficient": GATED},
]
NAMES = [settings["method"] for settings in SETTINGS]


@pytest.mark.parametrize("algorithm", SETTINGS, ids=NAMES)
def test_a_stopped_run_goes_on_with_all_that_it_learned(
    algorithm: dict[str, Any], tmp_path: Path
) -> None:
    settings = tiny_config(
        algorithm=algorithm,
        sampling={"steps": 3},
        # FDFO's samples come in pairs.
        training={
            "learning_rate_schedule": "cosine",
            "ema_decay": 0.5,
            "samples_per_prompt": 2 if algorithm["method"] == "fdfo" else 3,
        },
    )
    whole, resumed = whole_and_resumed(settings, darkness, tmp_path)
    rows = metrics_without_timings(tmp_path / "whole")
    assert metrics_without_timings(tmp_path / "stopped") == rows
    assert adapter_bytes(tmp_path / "stopped") == adapter_bytes(tmp_path / "whole")
    state = json.dumps(resumed.trainer_state(), default=lambda value: value.tolist())
    assert state == json.dumps(whole.trainer_state(), default=lambda value: value.tolist())
    assert any(row["beta_min"] < row["beta_max"] for row in rows)


def test_the_gate_runs_the_reference_for_gated_samples_alone() -> None:
    trainer = build_trainer(
        tiny_config(algorithm=SETTINGS[0], training={"timesteps_per_sample": 2}), reward=darkness
    )
    asked: list[list[float]] = []
    own = trainer.scorers[0].function  # type: ignore[attr-defined]

    def scorer(**samples: Any) -> list[float | None]:
        asked.append(list(own(**samples)))
        return asked[-1]

    object.__setattr__(trainer.scorers[0], "function", scorer)  # type: ignore[attr-defined]
    row = trainer.step(1)
    assert len(asked) == 1 and len(asked[0]) == 6
    gated = row["reference_rows"] / 2
    assert 0 < gated < 6
    # The mean of beta over the batch is beta_0.
    assert row["beta_mean"] == pytest.approx(1.0) and row["beta_max"] == pytest.approx(6 / gated)


def test_flow_grpo_holds_each_sample_by_its_own_coefficient() -> None:
    """Without advantages the loss is the mean of beta_i KL_i: a coefficient on one sample after
    the other adds up to one on all, and double the coefficient is double the loss."""
    trainer = build_trainer(
        tiny_config(algorithm={"method": "flow_grpo"}, sampling={"steps": 3}), reward=darkness
    )
    assert isinstance(trainer, FlowGRPOTrainer)
    perturb(trainer.policy)  # type: ignore[arg-type]
    steps, _ = trainer._sample(1, trainer.chosen_prompts(1)[0])
    rows = torch.arange(len(steps.t))
    noisy = len(rows) // 6

    def loss(beta: Tensor) -> float:
        zero = torch.zeros(6)
        weights = Weights(
            advantages=zero, clipped=zero.bool(), weight=zero, beta=beta, taken=zero == 0
        )
        each = weights.select(torch.arange(6).repeat_interleave(noisy))
        return float(trainer._update(steps, each, rows, len(rows), Stopwatch(trainer.device))[0])

    one_by_one = [loss(row) for row in torch.eye(6)]
    assert min(one_by_one) > 0 and max(one_by_one) > 1.05 * min(one_by_one)
    # Sums of a dozen float32 numbers.
    assert loss(torch.ones(6)) == pytest.approx(sum(one_by_one), rel=1e-5)
    assert loss(2 * torch.eye(6)[3]) == pytest.approx(2 * one_by_one[3], rel=1e-6)


def test_flow_grpo_clips_in_the_coefficient_alone() -> None:
    """A of size 1 and more, in deviations, meets a beta_0 of 0.04."""
    trainer = build_trainer(
        tiny_config(algorithm={"method": "flow_grpo", "coefficient": {"schedule": "adaptive"}}),
        reward=darkness,
    )
    assert isinstance(trainer, FlowGRPOTrainer)
    rewards, groups = torch.tensor([3.0, 0.0, 0.0, 1.0, 1.0, 1.0]), torch.arange(6) // 3
    weights = trainer._weigh(rewards, groups, {})
    assert weights.weight[0] > 1
    assert weights.beta.tolist() == pytest.approx([0, 0.08, 0.08, 0.04, 0.04, 0.04])


def test_flow_grpo_is_held_to_the_anchor_that_it_names() -> None:
    """With a decay of 0 the average is the policy that the step began with: one update a step has a
    KL of 0 to it, of a policy that has left the base."""
    kl = {}
    for anchor in ("base", "ema"):
        trainer = build_trainer(
            tiny_config(
                algorithm={
                    "method": "flow_grpo",
                    "anchor": anchor,
                    "anchor_decay": 0.0,
                    "updates_per_step": 1,
                },
                training={"learning_rate": 1e-2},
            ),
            reward=darkness,
        )
        trainer.step(1)
        kl[anchor] = trainer.step(2)["kl"]
    assert kl["base"] > 1e-4
    # Rounding: the same weights, in two calls of the same shape.
    assert kl["ema"] <= 1e-10


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        (
            {"coefficient": {"schedule": "fixed"}},
            "algorithm.coefficient.schedule: expected a schedule that varies over samples, "
            "received fixed, which is algorithm.method: fixed_beta; set that",
        ),
        (
            {"method": "awm", "coefficient": {"schedule": "adaptive"}},
            "algorithm.beta_0: expected a number above 0 with coefficient.schedule: adaptive",
        ),
        (
            {"method": "flow_grpo", "beta_0": 1e-5, "coefficient": {"schedule": "reward_adaptive"}},
            "algorithm.beta_0: expected at least coefficient.least = 0.0001",
        ),
        ({"method": "raft", "coefficient": {"schedule": "fixed"}}, "the loss raft has no penalty"),
    ],
)
def test_a_schedule_that_does_not_fit_is_refused(
    algorithm: dict[str, Any], message: str, tmp_path: Path
) -> None:
    from adrpo.config import load_flow_config
    from adrpo.config.documents import dump_yaml

    path = tmp_path / "recipe.yaml"
    path.write_text(dump_yaml({"algorithm": algorithm}), encoding="utf-8")
    with pytest.raises(AdrpoError) as caught:
        load_flow_config(path)
    assert message in str(caught.value)


def test_a_name_that_no_schedule_has_meets_the_nearest(tmp_path: Path) -> None:
    from adrpo.config import load_flow_config

    with pytest.raises(AdrpoError) as caught:
        load_flow_config("flow/adrpo", ["algorithm.coefficient.schedule=adaptiv"])
    assert "algorithm.coefficient.schedule: expected the name of a schedule" in str(caught.value)
    assert "did you mean 'adaptive'?" in str(caught.value)
    with pytest.raises(AdrpoError, match="another schedule has it; known keys: schedule"):
        load_flow_config("flow/adrpo", ["algorithm.coefficient.bound=1.0"])
    chosen = load_flow_config(
        "flow/adrpo",
        ["algorithm.coefficient.bound=1.0", "algorithm.coefficient.schedule=reward_adaptive"],
    )
    assert isinstance(chosen.algorithm, AdrpoSection)
    assert chosen.algorithm.coefficient.model_dump() == {
        "schedule": "reward_adaptive", "bound": 1.0, "least": 1e-4
    }  # fmt: skip


def test_flow_grpos_older_key_is_read_and_told() -> None:
    from adrpo.config.written import under_todays_names

    with pytest.warns(match="algorithm.beta is called algorithm.beta_0 now"):
        read = under_todays_names({"algorithm": {"method": "flow_grpo", "beta": 0.1}}, "flow", "x")
    assert read == {"algorithm": {"method": "flow_grpo", "beta_0": 0.1}}
    # DPO's beta is another quantity.
    assert under_todays_names({"algorithm": {"method": "dpo", "beta": 5.0}}, "flow", "x") == {
        "algorithm": {"method": "dpo", "beta": 5.0}
    }


def test_a_section_builds_its_coefficient() -> None:
    settings = FlowGrpoSection(method="flow_grpo", beta_0=0.2)
    samples_beta = Coefficient(settings.coefficient, settings.beta_0)
    rewards = torch.tensor([1.0, -1.0])
    samples = StepSamples(advantages=rewards, rewards=rewards)
    assert samples_beta.of(samples).tolist() == pytest.approx([0.2, 0.2])


def test_the_policy_that_lags_draws_the_samples_of_a_step() -> None:
    """One that never follows draws what the untrained model draws, whatever was learned."""
    drawn = {}
    for name, lag in (("current", None), ("base", {"decay": 1.0})):
        settings = {"sampling_policy": lag, "advantage_scale": "batch"}
        trainer = build_trainer(
            tiny_config(algorithm=settings, training={"learning_rate": 1e-2}), reward=darkness
        )
        assert isinstance(trainer, FlowTrainer)
        prompts = trainer.chosen_prompts(2)[0]
        untrained = trainer._sample(2, prompts)[0]
        trainer.step(1)
        drawn[name] = bool(torch.equal(trainer._sample(2, prompts)[0], untrained))
    assert drawn == {"current": False, "base": True}


@pytest.mark.parametrize("method", ["flow_grpo", "adrpo"])
def test_a_good_sample_that_is_unlike_the_others_counts_more(method: str) -> None:
    novelty = {"name": "clip_novelty", "options": {"model": "embedded", "nearest": True}}
    kept: list[Tensor] = []
    columns = {}
    for name, told in (("plain", None), ("novel", novelty)):
        settings = {"method": method, "advantage_novelty": told}
        trainer: Any = build_trainer(
            tiny_config(algorithm=settings, sampling={"steps": 3}), reward=darkness
        )
        owner, place = (trainer, "_weigh") if method == "flow_grpo" else (trainer.method, "weigh")
        own = getattr(owner, place)

        def weigh(*arguments: Any, own: Any = own) -> Weights:
            kept.append(own(*arguments).advantages)
            return own(*arguments)

        setattr(owner, place, weigh)
        columns[name] = trainer.step(1)
    plain, novel = kept
    good = plain > 0
    assert torch.equal(novel[~good], plain[~good])
    assert not torch.allclose(novel[good], plain[good])
    assert not torch.allclose(novel.std(), plain.std())
    for row, advantages in zip(columns.values(), kept, strict=True):
        assert row["advantage_std"] == pytest.approx(float(advantages.std(correction=0)), rel=1e-6)


def test_a_bent_advantage_reaches_weight_and_coefficient() -> None:
    """gamma = 1 squares A: in the regression both terms have the same."""
    rewards, groups = torch.tensor([2.0, 1.0, 0.0]), torch.zeros(3, dtype=torch.long)
    section = AdrpoSection(beta_0=4.0, advantage_clip=(-4.0, 4.0), advantage_gamma=1.0)
    weights = build_method(section).weigh(3 * rewards, groups)
    assert weights.weight.tolist() == [4.0, 0.0, -4.0] and weights.clipped.tolist() == [1, 0, 1]
    assert torch.equal(weights.beta, 4 - weights.weight)
    assert weights.advantages.tolist() == [9.0, 0.0, -9.0]

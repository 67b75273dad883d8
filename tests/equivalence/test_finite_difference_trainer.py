"""FDFO's trainer beside its published formulas, written out row by row in the paper's own time."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from adrpo.core.schedules import StepSamples
from adrpo.flow.domain import build_trainer
from adrpo.flow.path.draws import initial_noise
from adrpo.flow.training.finite_differences import FiniteDifferenceTrainer
from adrpo.runs.seeding import generator
from support.tiny_runs import darkness, perturb, tiny_config

CHURN, EPSILON, BETA_0, STEPS = 0.05, 0.04, 1.0, 3
"""Numbers that no default is."""


def trainer_of(
    reward: Callable[..., Any] = darkness, *, training: dict[str, Any] | None = None, **keys: Any
) -> FiniteDifferenceTrainer:
    """Two prompts of two samples, one update, no clip of the gradient."""
    algorithm = {
        "method": "fdfo",
        "churn": CHURN,
        "clip_range": EPSILON,
        "updates_per_step": 1,
        **keys,
    }
    config = tiny_config(
        model={"device": "cpu"},
        algorithm=algorithm,
        sampling={"steps": STEPS},
        training={"samples_per_prompt": 2, "max_grad_norm": 1e9, **(training or {})},
    )
    trainer = build_trainer(config, reward=reward)
    assert isinstance(trainer, FiniteDifferenceTrainer)
    perturb(trainer.policy)  # type: ignore[arg-type]
    return trainer


def published_loss(trainer: FiniteDifferenceTrainer) -> tuple[Tensor, list[float]]:
    """The mean loss of the first step, with a gradient at the adapter, one call for each row; and
    beta of its samples."""
    policy, seed = trainer.policy, trainer.config.training.seed
    shape = policy.latent_shape
    prompt, _ = trainer.chosen_prompts(1)
    start = initial_noise(2, shape, seed, "rollout", 1)
    fresh = torch.randn((STEPS, 4, *shape), generator=generator(seed, "churn", 1))
    noise_times = (1 - trainer.times).tolist()  # 1 is noise, as they have it

    def velocity(row: int, x: Tensor, tau: float) -> Tensor:
        given = trainer.prompts.conditioning.select(prompt[row : row + 1])
        return -policy.velocity(x[None], torch.tensor([1 - tau]), given)[0]

    ends: list[Tensor] = []
    visited: list[list[tuple[Tensor, float, Tensor]]] = []
    for row in range(4):
        x = start[row // 2] / (1 + CHURN)
        x = x + fresh[0, row] * math.sqrt((1 + CHURN) ** 2 - 1) / (1 + CHURN)
        points = []
        for index, (t, s) in enumerate(pairwise(noise_times)):
            with torch.no_grad():
                v = velocity(row, x, t)
            points.append((x, t, v))
            r = s / (1 + CHURN * (1 - s))
            x = (x + (r - t) * v) / (1 + CHURN * r)
            if index < STEPS - 1:
                spread = r * math.sqrt((1 + CHURN) ** 2 - 1) / (1 + CHURN * r)
                x = x + spread * fresh[index + 1, row]
        ends.append(x)
        visited.append(points)
    images = policy.decode(torch.stack(ends))
    rewards = torch.tensor(darkness([], images)).view(2, 2)  # type: ignore[arg-type]
    # In standard deviations within the two prompts, each of which has one pair.
    deviation = (rewards - rewards.mean(1, keepdim=True)).square().mean().sqrt()
    scaled = (rewards / deviation).flatten().tolist()
    losses, betas = [], []
    for row in range(4):
        other = row ^ 1
        d_reward = (scaled[row] - scaled[other]) / 2
        d = (ends[row] - ends[other]) / 2
        g = d / (d.square().mean() + 1e-6)
        beta = BETA_0 - max(-BETA_0, min(BETA_0, d_reward))
        betas.append(beta)
        for x, t, v_old in visited[row]:
            with torch.no_grad(), policy.reference():
                v_ref = velocity(row, x, t)
            v = velocity(row, x, t)
            q = ((g**2).mean() - (v - (v_old - g)).square().mean()).exp()
            surrogate = -d_reward * q + abs(d_reward) * (q - 1) ** 2 / (2 * EPSILON)
            losses.append(surrogate + beta * (v - v_ref).square().mean())
    return torch.stack(losses).mean(), betas


def test_a_step_is_the_published_one_and_the_adaptive_penalty():
    """Micro-batches of three leave one of the rollout's four rows."""
    trainer = trainer_of(
        coefficient={"schedule": "adaptive"},
        beta_0=BETA_0,
        advantage_scale="batch",
        training={"micro_batch_size": 3},
    )
    expected, betas = published_loss(trainer)
    found: list[Tensor] = []
    own = trainer.coefficient.of

    def kept(samples: StepSamples) -> Tensor:
        found.append(own(samples))
        return found[-1]

    trainer.coefficient.of = kept  # type: ignore[method-assign]
    parameters = trainer.policy.adapter_parameters()
    theirs = torch.cat([g.flatten() for g in torch.autograd.grad(expected, parameters)])
    row = trainer.step(1)
    # AdamW's first moment after one step is the gradient times 1 - 0.9.
    state = trainer.optimizer.state
    ours = torch.cat([state[p]["exp_avg"].flatten() for p in parameters]) / (1 - 0.9)
    # Rows are computed in other batches, float32 (1e-7), and their two squares of |g|^2 = 10 to
    # 1000 leave 1e-4 of q - 1, times the slope 1 / 0.03.
    assert (ours - theirs).norm() < 5e-3 * theirs.norm()
    assert row["loss"] == pytest.approx(float(expected.detach()), abs=5e-3)
    assert row["grad_norm"] == pytest.approx(float(theirs.norm()), rel=5e-3)
    assert (row["informative_fraction"], row["ratio_clipped_fraction"]) == (1, 0)
    # A is bounded in the coefficient alone, and of one pair of two only.
    assert found[0].tolist() == pytest.approx(betas, abs=1e-4)
    assert (row["beta_min"], row["beta_max"]) == pytest.approx((min(betas), max(betas)), abs=1e-4)
    # One deviation of both pairs together lies between their two |A|.
    assert min(betas) == 0 and sum(0 < beta < 2 * BETA_0 for beta in betas) == 2
    assert row["divergence"] > 0 and 0 < row["reference_rows"] <= 12


def test_without_a_penalty_the_reference_is_never_asked():
    trainer = trainer_of(points=2)
    row = trainer.step(1)
    # Four samples: three calls each to draw one, two to learn from it.
    assert (row["model_calls"], row["reference_rows"]) == (4 * 3 + 4 * 2, 0)
    # Each of the three points as often: 60 pairs' choices, within four deviations.
    chosen = torch.cat([trainer._chosen_points(step) for step in range(30)])
    assert (chosen[:, 0] != chosen[:, 1]).all()
    assert (chosen.flatten().bincount(minlength=3) - 40).abs().max() < 15
    held = trainer_of(points=2, beta_0=1.0).step(1)
    assert (held["model_calls"], held["reference_rows"]) == (4 * 3 + 4 * 2 * 2, 8)


def test_it_is_held_to_the_anchor_that_it_names():
    """At a decay of 0 the average is the policy before each step, which one update has not left
    yet where the penalty is computed."""
    found = {}
    for name, keys in {
        "base": {},
        "near": {"anchor": "ema", "anchor_decay": 0.0},
        "between": {"anchor": "ema", "anchor_decay": 0.5},
    }.items():
        trainer = trainer_of(beta_0=1.0, **keys)
        trainer.step(1)
        found[name] = trainer.step(2)["divergence"]
    # One call computes v and v_ref of a row: what a rounding of 1e-7 leaves of its square.
    assert found["near"] < 1e-10 < found["between"]
    assert found["between"] != pytest.approx(found["base"], rel=0.01)


def alternating(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
    """A reward of noise alone: the first of each pair is better whatever it shows."""
    return [float(index % 2) for index in range(len(images))]


def test_without_churn_there_is_no_gradient():
    plain, churned = trainer_of(alternating, churn=0.0), trainer_of(alternating)
    still, moved = plain.step(1), churned.step(1)
    assert still["informative_fraction"] == 1
    # The two rows of a pair are one sample, computed twice: at most a rounding (1e-7) apart, beside
    # which 1e-6 is added to mean d^2.
    assert still["grad_norm"] < 0.05 * moved["grad_norm"]


def test_pairs_of_equal_rewards_skip_the_network():
    def first_pair(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
        return [1.0, 0.0, 0.5, 0.5]

    row = trainer_of(first_pair).step(1)
    assert row["informative_fraction"] == 0.5
    # Six points by calls of four rows, the second of which is filled up.
    assert row["model_calls"] == 4 * STEPS + 2 * 4
    nothing = trainer_of(lambda prompts, images, **_: [1.0, 1.0, 0.5, 0.5])
    before = [value.clone() for value in nothing.policy.adapter_parameters()]
    row = nothing.step(1)
    assert (row["informative_fraction"], row["loss"], row["grad_norm"]) == (0, 0, 0)
    assert all(map(torch.equal, before, nothing.policy.adapter_parameters()))


def test_a_pair_with_one_score_teaches_nothing_and_counts_in_the_mean():
    """Half of the gradient of the same step is that of the pair that is whole."""

    def half(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
        return [1.0, 0.0, None, 0.5]

    def equal(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
        return [1.0, 0.0, 0.5, 0.5]

    lacking, whole = trainer_of(half).step(1), trainer_of(equal).step(1)
    assert lacking["samples_excluded"] == 1
    assert (lacking["informative_fraction"], whole["informative_fraction"]) == (1, 0.5)
    # The same rows in the same batches.
    assert lacking["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-6)
    row = trainer_of(lambda prompts, images, **_: [None, 0.0, None, 0.5]).step(1)
    assert row["loss"] is None and row["samples_excluded"] == 2

"""benchmarks/peer_loops: each loop's rows have a closed form, and its gradient is our loss's."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from adrpo.core import flow_objective, velocity_divergence
from adrpo.flow.domain import build_trainer
from adrpo.flow.methods import Weights
from adrpo.flow.methods.base import clipped_advantages
from adrpo.flow.models import lora
from adrpo.flow.path.path_samples import PathSamples
from adrpo.flow.training.flow_grpo import FlowGRPOTrainer, NoisySteps
from adrpo.flow.training.online import OnlineLoop
from adrpo.flow.training.stopwatch import Stopwatch
from adrpo.flow.training.update import Batch, accumulate_gradient
from benchmarks.peer_loops.counting import PARTS, Counter
from benchmarks.peer_loops.grpo import FlowFactoryGrpo, FlowGrpo
from benchmarks.peer_loops.loops import NAMES, PEERS, build_loop, recipe_of
from benchmarks.peer_loops.regression import (
    Awm,
    DiffusionNft,
    FlowFactoryAwm,
    FlowFactoryNft,
    strata,
)
from benchmarks.peer_loops.structures import COUNTERPARTS, OURS, STRUCTURES, structures_table
from support.tiny_runs import darkness, perturb, tiny_config

METHODS: dict[str, dict[str, Any]] = {
    "flow/verifiable": {"method": "adrpo"},
    "flow/flow-grpo": {"method": "flow_grpo", "beta_0": 0.3, "updates_per_step": 2},
    "flow/diffusion-nft-published": {
        "method": "diffusion_nft",
        "advantage_scale": "global",
        "anchor": "sampling",
        "sampling_policy": {"decay": 0.0, "decay_growth": 0.001, "decay_most": 0.5},
        "loss_weight": 5.0,
        "kl_beta": 0.1,
    },
    "flow/awm": {"method": "awm", "advantage_clip": [-5.0, 5.0], "advantage_scale": "batch"},
}
STEPS = 7
"""Enough for the window of noisy steps of Flow-Factory."""


def trainer_of(name: str, **sections: Any) -> OnlineLoop:
    """Our trainer of the loop's method, two prompts of three images on the random model."""
    config = tiny_config(
        algorithm=METHODS[recipe_of(name)],
        sampling={"steps": STEPS},
        evaluation={"clip": None},
        **sections,
    )
    trainer = build_trainer(config, reward=darkness)
    assert isinstance(trainer, OnlineLoop)
    return trainer


def gradient(loop: Any) -> Tensor:
    """The gradient of the adapter, which is then none."""
    found = torch.cat([p.grad.flatten() for p in loop.parameters])
    for parameter in loop.parameters:
        parameter.grad = None
    return found


def relative(found: Tensor, expected: Tensor) -> float:
    assert float(expected.norm()) > 0
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", PEERS)
def test_a_loop_sends_the_rows_of_its_structure(name: str) -> None:
    loop: Any = build_loop(name, trainer_of(name))
    counter = Counter(loop.pipeline)
    for step in (1, 2):
        counter.begin(6)
        loop.step(step)
        found = counter.found()
        expected = STRUCTURES[name].rows(images=6, kept=loop.kept, sampling_steps=STEPS)
        assert {part: found[part] for part in PARTS} == expected
        assert loop.kept == 6


def test_flow_grpo_leaves_out_what_has_no_advantage() -> None:
    trainer = trainer_of("flow_grpo")
    loop = FlowGrpo(trainer)
    drawn, _ = loop.collect(1)
    counter = Counter(loop.pipeline)
    counter.begin(0)
    # The second prompt's images are all alike, and one of three is kept beside the first's.
    loop.learn(1, drawn, torch.tensor([1.0, 0.0, 0.0, 2.0, 2.0, 2.0]))
    assert loop.kept == 4
    assert counter.found()["rows_learnt"] == 4 * (STEPS - 1)


def test_a_call_of_awm_has_all_points_of_its_micro_batch() -> None:
    loop = Awm(trainer_of("awm", training={"micro_batch_size": 18}))
    assert loop.learnt_batch == 3
    drawn, rewards = loop.collect(1)
    counter = Counter(loop.pipeline)
    counter.begin(0)
    loop.learn(1, drawn, rewards)
    # Two micro-batches of policy, base and average, each of 3 * 6 rows.
    assert counter.found()["calls"] == 6 and counter.found()["rows_learnt"] == 36


@pytest.mark.parametrize("kind", [FlowGrpo, FlowFactoryGrpo])
def test_the_gradient_of_the_grpo_loops_is_ours(kind: Any) -> None:
    trainer = trainer_of("flow_grpo")
    assert isinstance(trainer, FlowGRPOTrainer)
    loop, policy = kind(trainer), cast(Any, trainer.policy)
    # Away from the base, where the KL has no gradient.
    perturb(policy, 1)
    drawn, rewards = loop.collect(1)
    perturb(policy, 2)
    advantages = clipped_advantages(rewards, drawn.group, loop.settings, None).advantages
    halves = torch.arange(6).chunk(2)
    loop.accumulate([(drawn.select(rows), advantages[rows]) for rows in halves], 1)
    found = gradient(loop)

    places = list(loop.noisy(1))
    steps = NoisySteps(
        x=drawn.x.flatten(0, 1),
        x_next=drawn.x_next.flatten(0, 1),
        t=loop.times[places].repeat(6),
        t_next=loop.times[[place + 1 for place in places]].repeat(6),
        log_prob=drawn.log_prob.flatten(),
        prompt=trainer.chosen_prompts(1)[0].repeat_interleave(len(places)),
    )
    weights = trainer._weigh(rewards, drawn.group, {})
    if not kind.held:
        weights.beta.zero_()
    repeated = weights.select(torch.arange(6).repeat_interleave(len(places)))
    rows = torch.arange(6 * len(places))
    trainer._update(steps, repeated, rows, len(rows), Stopwatch(trainer.device))
    # Another batch shape rounds otherwise; a forgotten term or row is far above.
    assert relative(found, gradient(loop)) < 1e-4


def learnt(loop: Any) -> tuple[Batch, Tensor]:
    """All rows of a step's micro-batches, as our update takes them, and the loop's gradient of
    them; policy, average and base are three models."""
    policy = loop.trainer.policy
    average = getattr(loop, "old", None) or getattr(loop, "ema", None) or loop.average
    perturb(policy, 1)
    average.follow(0.0)
    drawn, rewards = loop.collect(1)
    perturb(policy, 2)
    parts = loop.micro_batches(1, drawn, rewards)
    for part in parts:
        loop.accumulate(part, len(part.drawn) / 6)
    assert sum(len(part.drawn) for part in parts) == 6 and len(parts) == 2
    points = [part.point(order) for part in parts for order in range(loop.number)]
    text = torch.cat([part.drawn.embeds for part in parts for _ in range(loop.number)])
    weights = [part.weights for part in parts for _ in range(loop.number)]
    conditioning = loop.trainer.prompts.conditioning
    # Known by what it reads: the order of the samples is the loop's own.
    distances = (conditioning.context[None] - text[:, None]).flatten(2).abs().amax(2)
    batch = Batch(
        path=PathSamples(
            **{k: torch.cat([getattr(p, k) for p in points]) for k in ("t", "x_t", "u_t")}
        ),
        conditioning=conditioning.select(distances.argmin(1)),
        weights=Weights.joined(weights),
    )
    return batch, gradient(loop)


@pytest.mark.parametrize("kind", [DiffusionNft, FlowFactoryNft])
def test_the_gradient_of_the_nft_loops_is_ours(kind: Any) -> None:
    # Micro-batches of four and two samples: a mean of their means is not the mean.
    loop = kind(trainer_of(kind.name, training={"micro_batch_size": 4}))
    batch, found = learnt(loop)
    if kind is FlowFactoryNft:
        batch.weights.beta.zero_()
    trainer: Any = loop.trainer
    old = loop.old if kind is DiffusionNft else loop.average
    accumulate_gradient(
        trainer._velocity,
        trainer.models.anchor,
        loop.method,
        batch,
        micro_batch=len(batch),
        stopwatch=Stopwatch(trainer.device),
        old=old,
    )
    assert relative(found, gradient(loop)) < 1e-4


@pytest.mark.parametrize("kind", [Awm, FlowFactoryAwm])
def test_the_gradient_of_the_awm_loops_is_ours(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Their coefficients of the base would be lost beside that of the average.
    monkeypatch.setattr(kind, "beta", 0.7)
    rows = 18 if kind is Awm else 4
    loop = kind(trainer_of(kind.name, training={"micro_batch_size": rows}))
    batch, found = learnt(loop)
    trainer: Any = loop.trainer
    average = loop.ema if kind is Awm else loop.average
    with torch.no_grad(), average.active():
        v_ema = trainer._velocity(batch)
    with torch.no_grad(), trainer.policy.reference():
        v_ref = trainer._velocity(batch)
    v = trainer._velocity(batch)
    loss = flow_objective(v, batch.path.u_t, v_ema, batch.weights.weight, beta=loop.ema_beta)
    (loss + 0.7 * velocity_divergence(v, v_ref)).mean().backward()
    assert relative(found, gradient(loop)) < 1e-4


def test_second_adapters_follow_and_leave_the_trained_one() -> None:
    loop: Any = DiffusionNft(trainer_of("diffusion_nft"))
    transformer = loop.transformer
    before = [parameter.detach().clone() for parameter in loop.parameters]
    perturb(loop.trainer.policy)
    moved = [parameter.detach().clone() for parameter in loop.parameters]
    with loop.old.active():
        assert transformer.active_adapters() == ["old"]
    assert transformer.active_adapters() == [lora.ADAPTER]
    assert all(p.requires_grad for p in loop.parameters)
    loop.old.follow(0.25)
    for value, first, then in zip(loop.old.values, before, moved, strict=True):
        torch.testing.assert_close(value.detach(), 0.25 * first + 0.75 * then)
    torch.testing.assert_close([p.detach() for p in loop.parameters], moved)


def test_strata_are_one_in_each_part_and_shared_by_the_samples() -> None:
    draws = torch.Generator().manual_seed(0)
    for _ in range(50):
        places = strata(1, 9, 4, 3, draws)
        assert (places == places[:, :1]).all()
        low = torch.tensor([1, 3, 5, 7])
        assert ((places[:, 0] >= low) & (places[:, 0] < low + 2)).all()


def test_every_loop_has_a_recipe_and_a_counterpart() -> None:
    assert set(PEERS) == set(STRUCTURES) == set(COUNTERPARTS)
    assert set(NAMES) == set(PEERS) | set(OURS) and set(COUNTERPARTS.values()) < set(OURS)
    assert structures_table().count("###") == len(STRUCTURES)

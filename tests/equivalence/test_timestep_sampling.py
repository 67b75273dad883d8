"""``training.timestep_sampling``: the times at which a trainer's step evaluates the policy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adrpo.flow.domain import build_trainer
from adrpo.runs.directory import RunDirectory
from support.tiny_runs import darkness, tiny_config

TIMESTEPS = 100
METHODS: dict[str, dict[str, Any]] = {
    "adrpo": {},
    "dpo": {"method": "dpo", "pairs_prompts": 4, "pairs_samples": 2},
}


def times_of_a_step(algorithm: dict[str, Any], folder: Path, **training: Any) -> Tensor:
    """t of each row that the first step learns from, in order; the network is replaced by a cheap
    function."""
    config = tiny_config(
        algorithm=algorithm,
        training={
            "prompts_per_step": 2,
            "samples_per_prompt": 4,
            "timesteps_per_sample": TIMESTEPS,
            "micro_batch_size": 1000,
            **training,
        },
    )
    trainer = build_trainer(config, reward=darkness)
    seen: list[Tensor] = []
    factor = nn.Parameter(torch.ones(()))
    # What the optimizer's step needs.
    for parameter in trainer.policy.adapter_parameters():
        parameter.grad = torch.zeros_like(parameter)

    def velocity(x_t: Tensor, t: Tensor, *_: Any, **__: Any) -> Tensor:
        if torch.is_grad_enabled():
            seen.append(t)
        return factor * x_t

    trainer.policy.velocity = velocity  # type: ignore[method-assign]
    trainer.prepare(RunDirectory.create(folder, "domain: flow\n"))
    trainer.step(1)
    (t,) = seen
    if algorithm:
        # Both images of a pair are at the same times.
        chosen, rejected = t.chunk(2)
        assert torch.equal(chosen, rejected)
        return chosen
    return t


def distance(t: Tensor, distribution: Callable[[Tensor], Tensor]) -> float:
    """The greatest difference of the distribution functions, times sqrt(n) (Kolmogorov, Smirnov);
    above 1.63 in one of a hundred draws from ``distribution``."""
    expected = distribution(t.double().sort().values)
    count = len(t)
    ranks = torch.arange(count + 1, dtype=torch.float64) / count
    gap = torch.maximum(ranks[1:] - expected, expected - ranks[:-1]).max()
    return float(gap) * count**0.5


def uniform(t: Tensor) -> Tensor:
    return t


def logit_normal(t: Tensor) -> Tensor:
    return torch.special.ndtr(t.logit())


@pytest.mark.parametrize("algorithm", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize(
    ("sampling", "expected", "other"),
    [
        ("uniform", uniform, logit_normal),
        ("logit_normal", logit_normal, uniform),
        ("stratified", uniform, logit_normal),
    ],
)
def test_the_times_of_a_step_have_the_distribution_that_is_named(
    sampling: str,
    expected: Callable[[Tensor], Tensor],
    other: Callable[[Tensor], Tensor],
    algorithm: dict[str, Any],
    tmp_path: Path,
) -> None:
    t = times_of_a_step(algorithm, tmp_path / "run", timestep_sampling=sampling)
    assert len(t) == TIMESTEPS * (4 if algorithm else 8)
    # The two distributions are 0.117 apart, which is 2.3 for the 400 times of the pairs.
    assert distance(t, expected) < 1.63 < distance(t, other)
    # Of each sample one in each hundredth, in order, or as chance has it.
    places = (t * TIMESTEPS).floor().long().view(-1, TIMESTEPS)
    in_order = bool((places == torch.arange(TIMESTEPS)).all())
    assert in_order == (sampling == "stratified")


def test_without_the_key_times_are_stratified(tmp_path: Path) -> None:
    default = times_of_a_step({}, tmp_path / "default")
    named = times_of_a_step({}, tmp_path / "named", timestep_sampling="stratified")
    assert torch.equal(default, named)

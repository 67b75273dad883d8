"""FDFO on eight Gaussian modes, whose flow is known exactly: it gains, and a penalty holds it."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from adrpo.core import velocity_divergence
from adrpo.core.finite_differences import (
    difference_ratio,
    difference_surrogate,
    end_directions,
    half_differences,
)
from adrpo.flow.path.churn import churned_euler

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PAIRS, STEPS, UPDATES = 128, 30, 4
TIMES = torch.linspace(0, 1, 11)


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("mixture")


def trained(
    ring: ModuleType, *, churn: float, beta_0: float, adaptive: bool = False
) -> dict[str, Any]:
    """The ring's measures of a policy after ``STEPS`` steps, whose reward is the x coordinate."""
    torch.manual_seed(0)
    policy, draws = ring.Policy(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(policy.parameters(), lr=2e-3)
    for _ in range(STEPS):
        x_0 = torch.randn(PAIRS, 2, generator=draws).repeat_interleave(2, 0)
        run = churned_euler(
            policy,
            x_0,
            TIMES,
            churn=churn,
            noise=lambda _: torch.randn(2 * PAIRS, 2, generator=draws),
        )
        count = len(TIMES) - 1
        g = end_directions(run.x_1).repeat(count, 1)
        advantages = half_differences(ring.reward(run.x_1)).repeat(count)
        shift = advantages.clamp(-beta_0, beta_0) if adaptive else torch.zeros(())
        x, v_old = run.points.flatten(0, 1), run.velocities.flatten(0, 1)
        t = TIMES[:-1].repeat_interleave(2 * PAIRS)
        pair = torch.arange(2 * PAIRS).repeat(count) // 2
        for part in torch.randperm(PAIRS, generator=draws).chunk(UPDATES):
            rows = torch.isin(pair, part)
            v = policy(x[rows], t[rows])
            log_ratio = difference_ratio(v, v_old[rows], g[rows])
            loss = difference_surrogate(log_ratio, advantages[rows], clip_range=0.03)
            with torch.no_grad():
                v_ref = ring.base_velocity(x[rows], t[rows])
            loss = loss + (beta_0 - shift.expand(len(t))[rows]) * velocity_divergence(v, v_ref)
            optimizer.zero_grad()
            loss.mean().backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
    return ring.measure(policy)


def test_it_gains_with_the_published_constants(ring: ModuleType):
    """The churn is that of 40 steps, carried to the ten here; half of what it gained when written,
    from a mean of 0 that 2048 samples show to 0.03."""
    found = trained(ring, churn=0.01, beta_0=0.0)
    assert found["reward"] - ring.measure(ring.base_velocity)["reward"] > 0.09
    assert found["modes_alive"] == 8


def test_it_gains_more_from_pairs_that_lie_farther_apart_and_the_adaptive_penalty_holds_it(
    ring: ModuleType,
):
    free = trained(ring, churn=0.1, beta_0=0.0)
    held = trained(ring, churn=0.1, beta_0=1.0, adaptive=True)
    # Without a penalty 0.58 and 0.10 when written, with it 0.42 and 0.056.
    assert free["reward"] > held["reward"] > 0.2
    assert 0 < held["divergence"] < 0.75 * free["divergence"]
    # The least of eight modes has a share of 0.125 at first.
    assert held["least_mode"] > free["least_mode"] > 0.03

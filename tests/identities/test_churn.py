"""The churned sampler keeps the flow's marginals, and without churn it is Euler's."""

import math

import pytest
import torch
from torch import Tensor

from adrpo.flow.path.churn import churned, churned_euler, overshoot
from adrpo.flow.path.mixture import Mixture, path_velocity, sample_mixture
from adrpo.flow.path.samplers import euler


def published(x: Tensor, v: Tensor, t: float, s: float, gamma: float, eps: Tensor) -> Tensor:
    """FDFO's step in the paper's own time, from ``t`` to ``s`` < t: noise is at 1 and ``v`` points
    to it. For t = s = 1 it is what the start noise is churned by."""
    r = s / (1 + gamma * (1 - s))
    y = x + (r - t) * v
    return y / (1 + gamma * r) + eps * r * math.sqrt((1 + gamma) ** 2 - 1) / (1 + gamma * r)


def test_a_step_is_the_published_one_in_the_other_time():
    x, v, eps = torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(0)).double()
    gamma = 0.0025
    for t, t_next in ((0.0, 0.3), (0.3, 0.55), (0.6, 1.0)):
        there = torch.tensor(t_next, dtype=torch.float64)
        y = x + (overshoot(there, churn=gamma) - t) * v
        found = churned(y, there, churn=gamma, noise=eps)
        # float64 rounding of values of size 1.
        expected = published(x, -v, 1 - t, 1 - t_next, gamma, eps)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    start = churned(x, torch.zeros((), dtype=torch.float64), churn=gamma, noise=eps)
    theirs = x / (1 + gamma) + eps * math.sqrt((1 + gamma) ** 2 - 1) / (1 + gamma)
    torch.testing.assert_close(start, theirs, rtol=0, atol=1e-14)


@pytest.mark.parametrize("steps", [1, 7])
def test_without_churn_it_is_eulers(steps: int):
    x_0 = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    times = torch.linspace(0, 1, steps + 1).square()

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return (2 * x * t[:, None]).sin()

    run = churned_euler(velocity, x_0, times, churn=0.0, noise=lambda _: torch.randn(5, 3))
    # The same operations on the same numbers, times 1 and plus 0.
    assert torch.equal(run.x_1, euler(velocity, x_0, times))
    assert torch.equal(run.points[0], x_0)


def coefficients(std: float, steps: int, churn: float) -> list[Tensor]:
    """How each point, and the sample, of N(0, std^2) data depends on the start noise and on each
    fresh noise: [noises] for each of them. The map is linear, so that unit noises tell.

    The velocity is the secant of the exact flow of a Gaussian, along which x / sigma_t is
    constant, so that Euler's step has no error.
    """
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64).square()

    def sigma(t: Tensor) -> Tensor:
        return ((1 - t).square() + (t * std).square()).sqrt()

    def secant(x: Tensor, t: Tensor) -> Tensor:
        index = int((times == t[0]).nonzero())
        end = overshoot(times[index + 1], churn=churn)
        return ((sigma(end) / sigma(times[index]) - 1) / (end - times[index])) * x

    unit = torch.eye(steps + 1, dtype=torch.float64)
    run = churned_euler(
        secant, unit[:, :1], times, churn=churn, noise=lambda index: unit[:, index + 1, None]
    )
    return [point.flatten() for point in (*run.points, run.x_1)]


@pytest.mark.parametrize("churn", [0.0, 0.0025, 0.5])
def test_the_marginals_of_a_gaussian_stay_at_every_point(churn: float):
    std, steps = 0.4, 9
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64).square()
    found = coefficients(std, steps, churn)
    for t, own in zip(times, found, strict=True):
        expected = (1 - t) ** 2 + (t * std) ** 2
        # Independent unit noises: variances add up. float64 rounding of ten steps.
        assert own.square().sum().item() == pytest.approx(float(expected), rel=1e-13)
    # Every noise is felt, the start's and that of each step but the last.
    assert bool((found[-1][1:] != 0).all()) == (churn > 0)


def test_as_much_is_left_of_the_start_where_a_churn_is_carried_to_other_steps():
    """Where the data are a point all that varies is noise, of which each churn leaves the share
    (1 + gamma)^-2, so that 40 steps and 10 can stir alike."""
    left = []
    for steps, churn in ((40, 0.0025), (10, 1.0025**4 - 1)):
        last = coefficients(1e-9, steps, churn)[-2]
        left.append(float(last[0].square() / last.square().sum()))
    # float64 rounding of 40 products, and 1e-9 of data beside 1e-2 of noise.
    assert left == pytest.approx([1.0025**-80] * 2, rel=1e-12)


def test_the_marginals_of_a_mixture_stay():
    mixture = Mixture(
        means=torch.tensor([[1.5, 0.2], [-1.0, 1.2], [0.3, -1.8]], dtype=torch.float64),
        weights=torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64),
        std=0.3,
    )
    count, generator = 20_000, torch.Generator().manual_seed(3)
    x_0 = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    run = churned_euler(
        lambda x, t: path_velocity(mixture, x, t),
        x_0,
        torch.linspace(0, 1, 401, dtype=torch.float64),
        churn=0.02,
        noise=lambda index: torch.randn(x_0.shape, generator=generator, dtype=torch.float64),
    )
    mode = torch.cdist(run.x_1, mixture.means).argmin(1)
    for k, weight in enumerate(mixture.weights):
        of_mode = run.x_1[mode == k]
        # Four and a half standard errors, and the error of Euler's 400 steps, about 1 / 400.
        limit = 4.5 * (weight * (1 - weight) / count) ** 0.5 + 1 / 400
        assert abs(len(of_mode) / count - weight) < limit
        limit = 4.5 * mixture.std / len(of_mode) ** 0.5 + 1 / 400
        assert (of_mode.mean(0) - mixture.means[k]).abs().max() < limit
        assert (of_mode.std(0) - mixture.std).abs().max() < limit
    # The path's middle has the distribution of (1 - t) x_0 + t x_1, too: means of functions.
    middle = run.points[200]
    path = 0.5 * sample_mixture(mixture, count, generator) + 0.5 * x_0[torch.randperm(count)]
    for function in (lambda x: x[:, 0], lambda x: x[:, 1].square(), lambda x: (2 * x[:, 0]).sin()):
        ours, theirs = function(middle), function(path)
        error = ((ours.var() + theirs.var()) / count).sqrt()
        assert (ours.mean() - theirs.mean()).abs() < 4.5 * error + 1 / 400

"""The flow known exactly, ADRPO's minimiser over it, and a policy that learns towards it."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from adrpo import adaptive_coefficient, flow_objective
from adrpo.flow.path.convention import interpolate, target_velocity
from adrpo.flow.path.mixture import (
    Mixture,
    adrpo_minimiser,
    path_log_density,
    path_velocity,
    quadrature_grid,
    reward_tilted,
    ring,
    sample_mixture,
)
from adrpo.flow.path.samplers import heun

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def uneven() -> Mixture:
    """Three modes that no symmetry relates."""
    return Mixture(
        means=torch.tensor([[1.5, 0.2], [-1.0, 1.2], [0.3, -1.8]], dtype=torch.float64),
        weights=torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64),
        std=0.3,
    )


def path(mixture: Mixture, count: int, seed: int, latest: float = 1.0) -> tuple[Tensor, ...]:
    """x_t, t, u_t with t ~ U(0, latest)."""
    generator = torch.Generator().manual_seed(seed)
    x_1 = sample_mixture(mixture, count, generator)
    x_0 = torch.randn(x_1.shape, generator=generator, dtype=x_1.dtype)
    t = latest * torch.rand(count, generator=generator, dtype=x_1.dtype)
    return interpolate(x_0, x_1, t), t, target_velocity(x_0, x_1)


def test_the_velocity_is_the_conditional_mean_of_the_target():
    x_t, t, u_t = path(uneven(), 200_000, seed=0)
    residual = u_t - path_velocity(uneven(), x_t, t)
    # Only E[u_t | x_t, t] leaves a residual that is uncorrelated with every function of both.
    functions = [torch.ones_like(t), t, x_t[:, 0], x_t[:, 1] * t, (2 * x_t[:, 0]).sin() * t]
    for function in functions:
        products = residual * function[:, None]
        standard_error = products.std(0) / len(products) ** 0.5
        # Ten Gaussian means: beyond 4.5 standard errors with probability 7e-5.
        assert (products.mean(0).abs() < 4.5 * standard_error).all()


def test_the_velocity_agrees_with_the_score_of_the_density():
    x_t, t, _ = path(uneven(), 50, seed=1)
    t = 0.1 + 0.9 * t
    x_t.requires_grad_()
    (score,) = torch.autograd.grad(path_log_density(uneven(), x_t, t).sum(), x_t)
    # x_0 is Gaussian: E[x_0 | x_t] = -(1 - t) score, and u_t = (x_t - x_0) / t.
    expected = (x_t + (1 - t)[:, None] * score) / t[:, None]
    # float64 rounding of scores up to 1 / s^2 = 11 times distances, divided by t >= 0.1.
    torch.testing.assert_close(path_velocity(uneven(), x_t, t), expected, rtol=0, atol=1e-11)


def test_the_velocity_carries_the_density_along_the_path():
    x_t, t, _ = path(uneven(), 50, seed=2)
    x_t.requires_grad_()
    t.requires_grad_()
    log_density = path_log_density(uneven(), x_t, t)
    score, in_time = torch.autograd.grad(log_density.sum(), (x_t, t))
    v = path_velocity(uneven(), x_t, t)
    divergence = sum(
        torch.autograd.grad(v[:, i].sum(), x_t, retain_graph=True)[0][:, i] for i in range(2)
    )
    # The continuity equation over p_t; float64 rounding of terms of size 100.
    balance = in_time + divergence + (v * score).sum(1)
    torch.testing.assert_close(balance, torch.zeros_like(t), rtol=0, atol=1e-10)


def test_the_flow_generates_the_mixture():
    count, mixture = 20_000, uneven()
    x_0 = torch.randn(count, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x_1 = heun(lambda x, t: path_velocity(mixture, x, t), x_0, torch.linspace(0, 1, 65).double())
    # Modes lie 8 s apart: the nearest mean is the mode a sample stems from.
    mode = torch.cdist(x_1, mixture.means).argmin(1)
    for k, weight in enumerate(mixture.weights):
        of_mode = x_1[mode == k]
        # Four and a half standard errors; the solver's error is an order below (64 steps).
        assert abs(len(of_mode) / count - weight) < 4.5 * (weight * (1 - weight) / count) ** 0.5
        tolerance = 4.5 * mixture.std / len(of_mode) ** 0.5
        assert (of_mode.mean(0) - mixture.means[k]).abs().max() < tolerance
        assert (of_mode.std(0) - mixture.std).abs().max() < tolerance


def test_modes_of_the_ring():
    mixture = ring(modes=4, radius=3.0)
    expected = torch.tensor([[3, 0], [0, 3], [-3, 0], [0, -3]], dtype=torch.float64)
    # cos(pi / 2) is 6e-17 in float64.
    torch.testing.assert_close(mixture.means, expected, rtol=0, atol=1e-15)
    assert mixture.weights.tolist() == [0.25] * 4


def test_a_linear_reward_tilts_the_mixture_into_another():
    direction = torch.tensor([0.8, -0.5], dtype=torch.float64)
    tilted = reward_tilted(uneven(), direction)
    x_1, weights = quadrature_grid(uneven(), spacing=0.05)
    one = torch.ones(len(x_1), dtype=torch.float64)
    ratio = path_log_density(tilted, x_1, one) - path_log_density(uneven(), x_1, one)
    log_z = (weights.log() + x_1 @ direction).logsumexp(0)
    # The grid ends 6 s beyond the modes, which cuts a mass of 1e-8 off.
    torch.testing.assert_close(ratio, x_1 @ direction - log_z, rtol=0, atol=1e-7)


def discrete() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    x_1 = torch.randn(9, 2, generator=generator, dtype=torch.float64)
    weights = torch.rand(9, generator=generator, dtype=torch.float64) + 0.1
    advantages = 2 * torch.rand(9, generator=generator, dtype=torch.float64) - 1
    return {"x_1": x_1, "weights": weights / weights.sum(), "advantages": advantages}


def conditional(x: Tensor, t: float, points: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """p(x_1 | x_t = x) and u_t at each of the points, for one x [2]."""
    scale = torch.full((2,), 1 - t, dtype=x.dtype)
    likelihood = torch.distributions.Normal(t * points["x_1"], scale).log_prob(x).sum(1).exp()
    joint = points["weights"] * likelihood
    return joint / joint.sum(), (points["x_1"] - x) / (1 - t)


@pytest.mark.parametrize("beta_0", [0.4, 1.0, 3.0])
def test_the_minimiser_minimises_the_expected_objective(beta_0: float):
    points = discrete()
    beta = adaptive_coefficient(points["advantages"], beta_0=beta_0, clip=None)
    x, v_ref = torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(5)).double()
    t = torch.tensor([0.0, 0.2, 0.5, 0.7, 0.9], dtype=torch.float64)
    found = adrpo_minimiser(x, t, v_ref, **points, beta_0=beta_0)
    for row in range(len(x)):
        posterior, u_t = conditional(x[row], float(t[row]), points)
        reference = v_ref[row].expand(9, 2)

        def expected_loss(
            v: Tensor, posterior: Tensor = posterior, u_t: Tensor = u_t, v_ref: Tensor = reference
        ) -> Tensor:
            loss = flow_objective(v.expand(9, 2), u_t, v_ref, points["advantages"], beta=beta)
            return posterior @ loss

        # Quadratic in v: one Newton step from anywhere solves the weighted least squares.
        start = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(expected_loss(start), start)
        hessian = torch.autograd.functional.hessian(expected_loss, start.detach())
        assert isinstance(hessian, Tensor)
        # float64 rounding, through u_t / beta_0 of size 100.
        expected = start.detach() - torch.linalg.solve(hessian, gradient)
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-12)


def test_the_tilt_is_bounded():
    points, beta_0 = discrete(), 0.7
    x, v_ref = torch.randn(2, 40, 2, generator=torch.Generator().manual_seed(6)).double()
    t = torch.linspace(0, 0.95, 40, dtype=torch.float64)
    moved = (adrpo_minimiser(x, t, v_ref, **points, beta_0=beta_0) - v_ref).norm(dim=1)
    for row in range(len(x)):
        posterior, u_t = conditional(x[row], float(t[row]), points)
        distance = posterior @ (u_t - v_ref[row]).norm(dim=1)
        # The relative slack covers rounding where one point has all the posterior.
        bound = points["advantages"].abs().max() / beta_0 * distance
        assert 0 < moved[row] <= bound * (1 + 1e-12)


def test_the_bound_is_reached_by_two_points_of_opposite_advantage():
    x, t = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
    x_1 = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    half = torch.full((2,), 0.5, dtype=torch.float64)
    advantages = torch.tensor([0.8, -0.8], dtype=torch.float64)
    v = adrpo_minimiser(
        x, t, torch.zeros_like(x), x_1=x_1, weights=half, advantages=advantages, beta_0=2.0
    )
    # Both points equally likely, u_t = +-1 / (1 - 0.5) = +-2: 0.8 / 2 * 2.
    expected = torch.tensor([[0.8, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(v, expected, rtol=0, atol=1e-15)


def test_equal_advantages_of_the_base_move_nothing():
    # A constant reward teaches nothing: E[u_t - v_ref | x_t] is 0 for the base's own samples.
    x_1, weights = quadrature_grid(uneven(), spacing=0.05)
    x_t, t, _ = path(uneven(), 200, seed=7, latest=0.95)
    v_ref = path_velocity(uneven(), x_t, t)
    v = adrpo_minimiser(
        x_t, t, v_ref, x_1=x_1, weights=weights, advantages=torch.ones_like(weights), beta_0=1.0
    )
    # Rectangle rule at the largest t: 5e-9 of u_t, which reaches 4; the grid's edge: 1e-8.
    torch.testing.assert_close(v, v_ref, rtol=0, atol=1e-6)


def test_the_minimiser_refuses_what_has_no_minimum():
    x, t = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
    with pytest.raises(ValueError, match="beta_0 > 0, received 0"):
        adrpo_minimiser(x, t, x, **discrete(), beta_0=0.0)
    with pytest.raises(ValueError, match="t < 1, received 1"):
        adrpo_minimiser(x, t + 0.5, x, **discrete(), beta_0=1.0)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("mixture")


def test_a_trained_policy_gains_and_keeps_every_mode(benchmark: ModuleType):
    adrpo = benchmark.Setting(name="", anchor="base", beta_0=1.0, clip=1.0)
    first, last = benchmark.train(adrpo, seed=0, steps=40, every=40)
    # The policy begins as the base itself, evaluated on the same points.
    assert first["divergence"] == 0
    # Half of what the exact first minimiser gains, 1.1 (docs/results/mixture.md).
    assert last["gain"] > 0.55
    assert last["modes_alive"] == 8
    # |u_t|^2 is about 2 for each element: a policy that diverged would be of that size.
    assert 0 < last["divergence"] < 1


def test_an_update_trains_the_policy_and_not_its_reference(benchmark: ModuleType):
    policy, reference = benchmark.Policy(), benchmark.Policy()
    setting = benchmark.Setting(name="", anchor="base", beta_0=2.0)
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
    benchmark.update(policy, reference, optimizer, setting, torch.Generator().manual_seed(0))
    assert all(parameter.grad is None for parameter in reference.parameters())
    last = policy.change[-1].weight
    assert last.grad is not None and last.grad.abs().max() > 0
    assert last.abs().max() > 0


def test_a_metric_is_read_where_its_gain_is_first_reached(benchmark: ModuleType):
    at_gain = importlib.import_module("mixture_table").at_gain
    places = ((0.0, 0.0, 8), (0.4, 0.1, 6), (0.8, 0.5, 2), (0.2, 9, 0))
    rows = [{"gain": gain, "divergence": d, "least_mode": m} for gain, d, m in places]
    # A quarter of the way from gain 0.4 to 0.8, of a divergence in its root; the later fall is not
    # read.
    assert at_gain(rows, "least_mode", 0.5) == pytest.approx(5)
    assert at_gain(rows, "divergence", 0.5) == pytest.approx(
        (0.75 * 0.1**0.5 + 0.25 * 0.5**0.5) ** 2
    )
    assert at_gain(rows, "divergence", 0.9) is None
    # A divergence that is the gain's square is read exactly, whatever the distance of two rows.
    exact = [{"gain": gain, "divergence": 3 * gain**2} for gain in (0.0, 0.7, 2.0)]
    assert at_gain(exact, "divergence", 1.0) == pytest.approx(3)

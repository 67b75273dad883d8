"""The solvers: order, exactness, evaluations, and agreement with diffusers' own step."""

import math
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)
from torch import Tensor

from adrpo.flow.path.convention import (
    dpm_time_grid,
    time_from_sigma,
    time_from_timestep,
    time_grid,
)
from adrpo.flow.path.samplers import SOLVERS, dpmpp_2m, euler, guided
from support.diffusers_convention import velocity_to_diffusers


def noise(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0), dtype=dtype)


def curved(x: Tensor, t: Tensor) -> Tensor:
    """Depends on x and on t; d x / d t = 2 x cos(3 t) has x(1) = x(0) exp(2/3 sin 3)."""
    return 2 * x * torch.cos(3 * t).reshape(-1, 1, 1)


def uneven(steps: int) -> Tensor:
    """Intervals of different lengths, as a shifted schedule has."""
    grid = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return grid / (3 - 2 * grid)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("dpmpp_2m", 2)])
def test_order_of_convergence(solver: str, order: int) -> None:
    start = noise()
    # Within (0, 1): at its ends the signal-to-noise ratio of dpmpp_2m is 0 or infinite.
    exact = start * math.exp(2 / 3 * (math.sin(3 * 0.9) - math.sin(3 * 0.1)))
    counts = [128, 256, 512, 1024]
    grids = [0.1 + 0.8 * uneven(n) for n in counts]
    errors = [(SOLVERS[solver](curved, start, grid) - exact).abs().max().item() for grid in grids]
    x = torch.tensor(counts, dtype=torch.float64).log()
    y = torch.tensor(errors, dtype=torch.float64).log()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    # Terms of the next order bend the line by a few parts in a hundred at these step counts.
    assert -slope.item() == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 7])
def test_a_straight_field_is_exact_in_any_number_of_steps(solver: str, steps: int) -> None:
    x_0 = noise()
    x_1 = torch.roll(x_0, 1, 0) + 2
    reached = SOLVERS[solver](lambda x, t: x_1 - x_0, x_0, uneven(steps))
    # float64 rounding of 7 additions of values of size 5.
    torch.testing.assert_close(reached, x_1, rtol=0, atol=1e-14)


def test_heun_is_exact_for_a_field_linear_in_time() -> None:
    x_0 = noise()
    reached = SOLVERS["heun"](lambda x, t: (2 * t).reshape(-1, 1, 1) + 0 * x, x_0, uneven(5))
    # The trapezoid of a line is its integral, 1; float64 rounding.
    torch.testing.assert_close(reached, x_0 + 1, rtol=0, atol=1e-14)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 4])
def test_evaluations_are_counted_and_stay_inside_the_grid(solver: str, steps: int) -> None:
    seen: list[Tensor] = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        assert t.shape == (len(x),)
        seen.append(t)
        return curved(x, t)

    times = uneven(steps)
    SOLVERS[solver](velocity, noise(), times)
    assert len(seen) == (2 if solver == "heun" else 1) * steps
    assert all(((t >= 0) & (t <= 1)).all() for t in seen)
    visited = {t[0].item() for t in seen}
    expected = set(times.tolist()) if solver == "heun" else set(times[:-1].tolist())
    assert visited == expected


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 8, 28])
def test_euler_is_diffusers_scheduler(shift: float, steps: int) -> None:
    scheduler: Any = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=shift)
    x_0 = noise(torch.float32)
    ours = euler(curved, x_0, time_grid(scheduler, steps))

    scheduler.set_timesteps(steps)
    theirs = x_0
    for timestep in scheduler.timesteps:
        t = time_from_timestep(timestep.expand(len(x_0)), num_train_timesteps=1000)
        model_output = velocity_to_diffusers(curved(theirs, t))
        theirs = scheduler.step(model_output, timestep, theirs, return_dict=False)[0]
    # float32 rounding over 28 steps of values of size 5; a wrong step would be off by 1e-2.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers'
@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 28])
def test_dpmpp_2m_is_diffusers_scheduler(shift: float, steps: int) -> None:
    scheduler: Any = DPMSolverMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=shift
    )
    x_0 = noise(torch.float32)
    times, told = dpm_time_grid(scheduler, steps)
    ours = dpmpp_2m(curved, x_0, times)

    scheduler.set_timesteps(steps)
    theirs = x_0
    for sigma, timestep in zip(scheduler.sigmas[:-1], scheduler.timesteps, strict=True):
        model_output = velocity_to_diffusers(curved(theirs, time_from_sigma(sigma.expand(3))))
        theirs = scheduler.step(model_output, timestep, theirs, return_dict=False)[0]
    # float32 rounding over 28 steps of values of size 5; without the second order it is 1e-2.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    # The model is told a whole one of a thousand timesteps.
    assert ((told - times[:-1]) * 1000).min() >= -1e-3
    assert ((told - times[:-1]) * 1000).max() < 1


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_model_of_lower_precision_leaves_the_state_in_the_noise_dtype(solver: str) -> None:
    x_0 = noise(torch.float32)
    x_1 = SOLVERS[solver](lambda x, t: curved(x, t).bfloat16(), x_0, uneven(8).float())
    full = SOLVERS[solver](curved, x_0, uneven(8).float())
    assert x_1.dtype == torch.float32
    # bfloat16 velocities have 3 digits; a bfloat16 state would be representable as bfloat16.
    torch.testing.assert_close(x_1, full, rtol=0.02, atol=0.02)
    assert not torch.equal(x_1, x_1.bfloat16().float())


def test_guidance_extrapolates_from_the_unconditional_velocity() -> None:
    v_cond = torch.tensor([[1.0, 2.0], [4.0, -1.0]])
    v_uncond = torch.tensor([[0.5, 1.0], [2.0, 1.0]])
    assert torch.equal(guided(v_cond, v_uncond, 0.0), v_uncond)
    assert torch.equal(guided(v_cond, v_uncond, 1.0), v_cond)  # small integers: exact
    # 0.5 + 3 (1 - 0.5) = 2, 1 + 3 (2 - 1) = 4, 2 + 3 (4 - 2) = 8, 1 + 3 (-1 - 1) = -5
    assert guided(v_cond, v_uncond, 3.0).tolist() == [[2.0, 4.0], [8.0, -5.0]]

"""The time convention and its mapping to diffusers."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)

from adrpo.errors import AdrpoError
from adrpo.flow.path import convention as path
from support.diffusers_convention import velocity_to_diffusers


def flow_scheduler(**options: Any) -> Any:
    """Untyped: diffusers annotates its tensors as None, floats and lists."""
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, **options)


def pair(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x_0, x_1 = torch.randn(2, 5, 3, 4, generator=generator, dtype=torch.float64)
    return x_0, x_1


def test_the_ends_of_the_path_are_noise_and_data_exactly() -> None:
    x_0, x_1 = pair()
    assert torch.equal(path.interpolate(x_0, x_1, torch.zeros(5, dtype=torch.float64)), x_0)
    assert torch.equal(path.interpolate(x_0, x_1, torch.ones(5, dtype=torch.float64)), x_1)


def test_each_sample_has_its_own_time() -> None:
    x_0, x_1 = pair()
    t = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    x_t = path.interpolate(x_0, x_1, t)
    for row, time in enumerate(t.tolist()):
        expected = (1 - time) * x_0[row] + time * x_1[row]
        assert torch.equal(x_t[row], expected)


# torch's forward mode scripts some of its own rules on first use.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is not supported:DeprecationWarning")
def test_target_velocity_is_the_derivative_of_the_path() -> None:
    x_0, x_1 = pair()
    t = torch.rand(5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    derivative = torch.func.jvp(
        lambda time: path.interpolate(x_0, x_1, time), (t,), (torch.ones_like(t),)
    )[1]
    # The derivative is -x_0 + x_1: the same single float64 rounding.
    torch.testing.assert_close(path.target_velocity(x_0, x_1), derivative, rtol=1e-15, atol=0)


def test_conversions_come_back() -> None:
    t = torch.linspace(0, 1, 33, dtype=torch.float64)  # multiples of 1/32: exact in binary
    assert torch.equal(path.time_from_sigma(path.sigma_from_time(t)), t)
    timestep = path.timestep_from_time(t, num_train_timesteps=1000)
    assert torch.equal(path.time_from_timestep(timestep, num_train_timesteps=1000), t)
    v, _ = pair()
    assert torch.equal(path.velocity_from_diffusers(velocity_to_diffusers(v)), v)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_x_t_is_what_the_scheduler_makes_of_the_same_noise(shift: float) -> None:
    scheduler = flow_scheduler(shift=shift)
    x_0, x_1 = (x.float() for x in pair())
    timestep = scheduler.timesteps[[0, 250, 500, 750, 999]]
    theirs = scheduler.scale_noise(sample=x_1, timestep=timestep, noise=x_0)
    t = path.time_from_timestep(timestep, num_train_timesteps=1000)
    # float32: t is rounded once, values of size 3.
    torch.testing.assert_close(path.interpolate(x_0, x_1, t), theirs, rtol=0, atol=2e-6)


def test_a_step_of_the_scheduler_along_the_converted_target_reaches_data() -> None:
    """Sign and sigma at once: from x_t the whole remaining way leads to x_1."""
    x_0, x_1 = (x.float() for x in pair())
    scheduler = flow_scheduler()
    scheduler.set_timesteps(timesteps=[400.0], sigmas=[0.4])
    t = path.time_from_timestep(scheduler.timesteps, num_train_timesteps=1000)
    assert t.item() == pytest.approx(0.6, abs=1e-7)  # float32
    assert path.sigma_from_time(t).item() == pytest.approx(scheduler.sigmas[0].item(), abs=1e-7)
    x_t = path.interpolate(x_0, x_1, t.expand(5))
    model_output = velocity_to_diffusers(path.target_velocity(x_0, x_1))
    assert torch.equal(model_output, x_0 - x_1)
    reached = scheduler.step(model_output, scheduler.timesteps[0], x_t, return_dict=False)[0]
    # float32, values of size 3.
    torch.testing.assert_close(reached, x_1, rtol=0, atol=2e-6)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 10, 28])
def test_time_grid_is_the_schedulers_own(shift: float, steps: int) -> None:
    scheduler = flow_scheduler(shift=shift)
    untouched = scheduler.timesteps.clone()
    times = path.time_grid(scheduler, steps)
    assert torch.equal(scheduler.timesteps, untouched)

    scheduler.set_timesteps(steps)
    assert torch.equal(times, 1 - scheduler.sigmas)
    assert times[0] == 0
    assert times[-1] == 1
    assert (times.diff() > 0).all()
    ours = path.timestep_from_time(times[:-1], num_train_timesteps=1000)
    # 1 - (1 - sigma) loses half a float32 ulp of 1, times 1000 timesteps.
    torch.testing.assert_close(ours, scheduler.timesteps, rtol=0, atol=6e-5)


def test_shift_spends_more_steps_near_the_noise() -> None:
    """sigma' = 3 sigma / (1 + 2 sigma), applied by the scheduler to its range and its points."""
    scheduler = flow_scheduler(shift=3.0)
    lowest = 3 * 0.001 / (1 + 2 * 0.001)
    unshifted = torch.linspace(1, lowest, 5, dtype=torch.float64)
    expected = 1 - 3 * unshifted / (1 + 2 * unshifted)
    # float32 schedule.
    torch.testing.assert_close(
        path.time_grid(scheduler, 5)[:-1].double(), expected, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("option", ["use_dynamic_shifting", "invert_sigmas", "stochastic_sampling"])
def test_time_grid_refuses_what_it_cannot_follow(option: str) -> None:
    scheduler = flow_scheduler(**{option: True})
    with pytest.raises(AdrpoError, match=f"{option}=false") as caught:
        path.time_grid(scheduler, 4)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheduler", [DDIMScheduler(), SimpleNamespace(sigmas=[1, 0])])
def test_time_grid_refuses_other_schedulers(scheduler: object) -> None:
    with pytest.raises(AdrpoError, match=type(scheduler).__name__):
        path.time_grid(scheduler, 4)


def test_time_grid_refuses_zero_steps() -> None:
    with pytest.raises(ValueError, match="steps >= 1"):
        path.time_grid(flow_scheduler(), 0)

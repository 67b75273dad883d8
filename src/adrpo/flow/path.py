"""The time convention, and its exact mapping to diffusers.

    here                                diffusers' FlowMatchEulerDiscreteScheduler
    t      0 noise -> 1 data            sigma = 1 - t    1 noise -> 0 data
    x_t    (1 - t) x_0 + t x_1          (1 - sigma) data + sigma noise    the same tensor
    u_t    d x_t / d t = x_1 - x_0      noise - data = -u_t
    --                                  model timestep = sigma * num_train_timesteps

x_0 is Gaussian noise, x_1 a sample. Everything in adrpo uses the left column; the conversions
below, in pairs, are the only crossing points.
"""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from adrpo.errors import AdrpoError


def interpolate(
    x_0: Float[Tensor, " batch *dims"],
    x_1: Float[Tensor, " batch *dims"],
    t: Float[Tensor, " batch"],
) -> Float[Tensor, " batch *dims"]:
    """x_t = (1 - t) x_0 + t x_1, the straight path from noise (t = 0) to data (t = 1)."""
    t = t.reshape(-1, *(1,) * (x_0.ndim - 1))
    return (1 - t) * x_0 + t * x_1


def target_velocity(
    x_0: Float[Tensor, " batch *dims"], x_1: Float[Tensor, " batch *dims"]
) -> Float[Tensor, " batch *dims"]:
    """u_t = d x_t / d t = x_1 - x_0, the same at every t."""
    return x_1 - x_0


def sigma_from_time(t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """sigma = 1 - t. Inverse: ``time_from_sigma``."""
    return 1 - t


def time_from_sigma(sigma: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """t = 1 - sigma. Inverse: ``sigma_from_time``."""
    return 1 - sigma


def timestep_from_time(
    t: Float[Tensor, "*shape"], *, num_train_timesteps: int
) -> Float[Tensor, "*shape"]:
    """The number a diffusers model takes: (1 - t) * num_train_timesteps. Inverse below."""
    return sigma_from_time(t) * num_train_timesteps


def time_from_timestep(
    timestep: Float[Tensor, "*shape"], *, num_train_timesteps: int
) -> Float[Tensor, "*shape"]:
    """t = 1 - timestep / num_train_timesteps. Inverse: ``timestep_from_time``."""
    return time_from_sigma(timestep / num_train_timesteps)


def velocity_from_diffusers(model_output: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """v = -model_output: a diffusers model predicts noise - data. Its own inverse."""
    return -model_output


def velocity_to_diffusers(v: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """model_output = -v. Inverse: ``velocity_from_diffusers``."""
    return -v


def time_grid(scheduler: Any, steps: int) -> Float[Tensor, " points"]:
    """The times of a scheduler's own schedule, shift included: 0 = t_0 < ... < t_steps = 1.

    Args:
        scheduler: a diffusers FlowMatchEulerDiscreteScheduler; it is left as it was.
        steps: number of intervals, at least 1.

    Returns:
        ``steps`` + 1 times, float32, on the CPU.

    Raises:
        AdrpoError: another class of scheduler, or one configured so that its trajectory is not a
            fixed deterministic schedule from noise to data.
        ValueError: ``steps`` < 1.
    """
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
        FlowMatchEulerDiscreteScheduler,
    )

    if steps < 1:
        raise ValueError(f"expected steps >= 1, received {steps}")
    if not isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        raise AdrpoError(
            "expected a model with a FlowMatchEulerDiscreteScheduler, received "
            f"{type(scheduler).__name__}: adrpo.flow trains flow-matching models only"
        )
    for option in ("use_dynamic_shifting", "invert_sigmas", "stochastic_sampling"):
        if scheduler.config.get(option):
            raise AdrpoError(
                f"expected a scheduler with {option}=false, received {option}=true "
                "(scheduler/scheduler_config.json): it is not supported, set it to false"
            )
    # set_timesteps changes the scheduler, which the pipeline also uses.
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(steps)
    return time_from_sigma(torch.as_tensor(scheduler.sigmas, dtype=torch.float32))

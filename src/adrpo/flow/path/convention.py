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
from collections.abc import Sequence
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


def solves_by_dpm(scheduler: Any) -> bool:
    """True where ``scheduler`` is a DPM-Solver of a flow, as SANA's files name one."""
    config = getattr(scheduler, "config", {})
    flow = config.get("prediction_type") == "flow_prediction"
    return flow and bool(config.get("use_flow_sigmas"))


def flow_scheduler(scheduler: Any) -> Any:
    """``scheduler``, or the Euler scheduler of the same flow where it is a DPM-Solver of one.

    A DPM-Solver keeps earlier model outputs, which neither an SDE nor a training velocity has;
    the flow, and the shift of its times, are those of
    FlowMatchEulerDiscreteScheduler(shift=flow_shift).
    """
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
        FlowMatchEulerDiscreteScheduler,
    )

    if not solves_by_dpm(scheduler):
        return scheduler
    config = scheduler.config
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=config["num_train_timesteps"], shift=config["flow_shift"]
    )


def dynamic_shift(scheduler: Any, tokens: int) -> float:
    """mu of a schedule that depends on the resolution: linear in the number of image tokens.

        mu(n) = base_shift + (max_shift - base_shift) (n - n_base) / (n_max - n_base)

    The numbers are those of the scheduler's configuration. The scheduler then shifts its sigmas by
    the odds, sigma / (1 - sigma) -> e^mu sigma / (1 - sigma) (Esser et al., arXiv 2403.03206,
    section 5.3.2), where its ``use_dynamic_shifting`` is on, and ignores mu where it is off.

    Args:
        scheduler: a diffusers FlowMatchEulerDiscreteScheduler.
        tokens: n, positions of the image in the transformer's sequence.
    """
    config = scheduler.config
    low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    base, top = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
    return base + (top - base) * (tokens - low) / (high - low)


def even_sigmas(steps: int) -> list[float]:
    """sigma = 1, ..., 1 / steps in equal distances: the pipelines' own points before the shift.

    A scheduler left to itself goes down to its sigma_min instead, with as many points.
    """
    return torch.linspace(1, 1 / steps, steps, dtype=torch.float64).tolist()


def time_grid(
    scheduler: Any, steps: int, *, sigmas: Sequence[float] | None = None, mu: float | None = None
) -> Float[Tensor, " points"]:
    """The times of a scheduler's own schedule, shift included: 0 = t_0 < ... < t_steps = 1.

    Args:
        scheduler: a diffusers FlowMatchEulerDiscreteScheduler; it is left as it was.
        steps: number of intervals, at least 1.
        sigmas: ``steps`` points before the shift; None leaves them to the scheduler.
        mu: the shift of a schedule that depends on the resolution (``dynamic_shift``).

    Returns:
        ``steps`` + 1 times, float32, on the CPU.

    Raises:
        AdrpoError: another class of scheduler, or one configured so that its trajectory is not a
            fixed deterministic schedule from noise to data; or one that needs mu, without it; or
            one step where the last but one point is fixed (``shift_terminal``).
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
    refused = ["invert_sigmas", "stochastic_sampling"]
    if mu is None:
        refused.append("use_dynamic_shifting")
    for option in refused:
        if scheduler.config.get(option):
            raise AdrpoError(
                f"expected a scheduler with {option}=false, received {option}=true "
                "(scheduler/scheduler_config.json): it is not supported, set it to false"
            )
    if steps == 1 and scheduler.config.get("shift_terminal"):
        raise AdrpoError(
            "sampling.steps: expected at least 2 with this model, whose scheduler fixes the last "
            "time before the data (shift_terminal); received 1"
        )
    # set_timesteps changes the scheduler, which the pipeline also uses.
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(steps, sigmas=sigmas, mu=mu)
    return time_from_sigma(torch.as_tensor(scheduler.sigmas, dtype=torch.float32))


def dpm_time_grid(
    scheduler: Any, steps: int
) -> tuple[Float[Tensor, " points"], Float[Tensor, " steps"]]:
    """The times of a flow's DPM-Solver (``solves_by_dpm``), and those that the model is told.

    diffusers starts at sigma = 1 - 1 / num_train_timesteps before the shift, with noise of variance
    1 all the same, so that 0 < t_0 < ... < t_steps = 1; and it hands each interval's timestep to
    the model without the digits after the point. Both float32, on the CPU.
    """
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(steps)
    times = time_from_sigma(torch.as_tensor(scheduler.sigmas, dtype=torch.float32))
    told = time_from_timestep(
        scheduler.timesteps.float(), num_train_timesteps=scheduler.config.num_train_timesteps
    )
    return times, told

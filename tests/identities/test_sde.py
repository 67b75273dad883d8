"""The stochastic sampler has the flow's marginals, and its likelihood ratio begins at 1."""

import math

import pytest
import torch
from torch import Tensor

from adrpo.core.preferences import clipped_surrogate, flow_dpo_objective
from adrpo.flow.path.samplers import euler
from adrpo.flow.path.sde import gaussian_kl, gaussian_log_prob, simulate, step_distribution

MEAN, SPREAD = 3.0, 0.5


def velocity(x: Tensor, t: Tensor) -> Tensor:
    """Exact for N(0, 1) -> N(MEAN, SPREAD^2): v = E[x_1 - x_0 | x_t = x]."""
    t = t.reshape(-1, 1)
    variance = (1 - t) ** 2 + (t * SPREAD) ** 2
    gain = (t * SPREAD**2 - (1 - t)) / variance
    return MEAN + gain * (x - t * MEAN)


@pytest.mark.parametrize("noise_level", [0.3, 0.7, 1.0])
def test_the_process_ends_in_the_distribution_of_the_flow(noise_level: float):
    generator = torch.Generator().manual_seed(0)
    count, steps = 20_000, 400
    x_0 = torch.randn((count, 1), generator=generator)
    times = torch.linspace(0, 1, steps + 1)
    trajectory = simulate(
        velocity,
        x_0,
        times,
        noise_level=noise_level,
        noise=lambda index: torch.randn((count, 1), generator=generator),
    )
    sampled, flowed = trajectory.points[-1], euler(velocity, x_0, times)
    # Standard error of a mean of 20,000 draws: 0.0035; the Euler steps add about 1 / 400.
    for value, expected in ((sampled.mean(), MEAN), (flowed.mean(), MEAN)):
        assert abs(value.item() - expected) < 0.02
    for value in (sampled.std(), flowed.std()):
        assert abs(value.item() - SPREAD) < 0.02
    # The noise is felt: the samples are no function of x_0 any more.
    correlation = torch.corrcoef(torch.cat([sampled, flowed], 1).T)[0, 1]
    assert correlation < 0.9


def test_log_probabilities_are_those_of_the_step_that_was_drawn():
    """Recomputed from the stored states they are equal: the ratio is 1 before an update."""
    generator = torch.Generator().manual_seed(1)
    times = torch.tensor([0.0, 0.3, 0.6, 1.0])
    x_0 = torch.randn((5, 1), generator=generator)
    trajectory = simulate(
        velocity,
        x_0,
        times,
        noise_level=0.7,
        noise=lambda index: torch.randn((5, 1), generator=generator),
    )
    assert trajectory.log_probs.shape == (2, 5)
    for index in range(2):
        x, t = trajectory.points[index], times[index].expand(5)
        mean, std = step_distribution(
            x, velocity(x, t), t, times[index + 1].expand(5), noise_level=0.7, first=0.3
        )
        again = gaussian_log_prob(trajectory.points[index + 1], mean, std)
        assert torch.equal(again, trajectory.log_probs[index])


def test_the_gaussian_matches_torch_distributions():
    generator = torch.Generator().manual_seed(2)
    x, mean, other = (
        torch.randn((4, 3, 2), generator=generator, dtype=torch.float64) for _ in range(3)
    )
    std = torch.rand(4, generator=generator, dtype=torch.float64) + 0.1
    wide = std[:, None, None].expand(4, 3, 2)
    theirs = torch.distributions.Normal(mean, wide)
    expected = theirs.log_prob(x).flatten(1).mean(1)
    torch.testing.assert_close(gaussian_log_prob(x, mean, std), expected, rtol=1e-12, atol=0)
    kl = torch.distributions.kl_divergence(theirs, torch.distributions.Normal(other, wide))
    torch.testing.assert_close(
        gaussian_kl(mean, other, std), kl.flatten(1).mean(1), rtol=1e-12, atol=1e-15
    )


def test_the_kl_of_a_step_is_that_of_the_published_code_over_the_steps_length():
    """Theirs divides by 2 std_dev_t^2 with the noise of a unit of time; ours by that of the step,
    so that beta = 0.04 weighs 1 / dt times as much here."""
    generator = torch.Generator().manual_seed(3)
    x, v, v_ref = (torch.randn((4, 3), generator=generator, dtype=torch.float64) for _ in range(3))
    t = torch.tensor([0.1, 0.3, 0.5, 0.8], dtype=torch.float64)
    dt = torch.tensor([0.1, 0.05, 0.2, 0.15], dtype=torch.float64)
    mean, std = step_distribution(x, v, t, t + dt, noise_level=0.7, first=0.1)
    other, _ = step_distribution(x, v_ref, t, t + dt, noise_level=0.7, first=0.1)
    std_dev_t = 0.7 * ((1 - t) / t).sqrt()
    published = (mean - other).square().mean(1) / (2 * std_dev_t**2)
    torch.testing.assert_close(gaussian_kl(mean, other, std), published / dt, rtol=1e-12, atol=0)


def test_the_surrogate_begins_as_the_policy_gradient_and_stops_at_the_clip():
    advantages = torch.tensor([2.0, -1.0, 2.0, -1.0])
    log_ratio = torch.tensor([0.0, 0.0, 0.5, -0.5], requires_grad=True)
    loss = clipped_surrogate(log_ratio, advantages, clip_range=0.2)
    loss.sum().backward()
    # At ratio 1 the gradient is -A; beyond the clip, on its good side, it is 0.
    assert log_ratio.grad is not None
    assert log_ratio.grad.tolist() == [-2.0, 1.0, 0.0, 0.0]
    torch.testing.assert_close(loss.detach(), torch.tensor([-2.0, 1.0, -2.4, 0.8]))


def test_a_preference_begins_at_log_two_and_pulls_both_ways():
    errors = [torch.full((3,), 0.4, requires_grad=True) for _ in range(2)]
    references = [torch.full((3,), 0.4, requires_grad=True) for _ in range(2)]
    loss = flow_dpo_objective(*errors, *references, beta=10.0)
    torch.testing.assert_close(loss.detach(), torch.full((3,), math.log(2)))
    loss.sum().backward()
    chosen, rejected = (error.grad for error in errors)
    assert chosen is not None and rejected is not None
    # -d/dz log sigmoid(z) = 1/2 at z = 0, and dz/dd_w = -beta / 2.
    torch.testing.assert_close(chosen, torch.full((3,), 2.5))
    torch.testing.assert_close(rejected, torch.full((3,), -2.5))
    assert all(reference.grad is None for reference in references)

"""The points of the path at which the update sees each sample."""

import pytest
import torch

from adrpo.flow.path.path_samples import sample_path


@pytest.fixture
def x_1() -> torch.Tensor:
    return torch.randn((64, 4, 2, 2), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("timesteps", [1, 4])
def test_every_row_lies_on_the_path_of_its_sample(x_1: torch.Tensor, timesteps: int):
    path = sample_path(x_1, torch.Generator().manual_seed(1), timesteps=timesteps)
    t = path.t.view(-1, 1, 1, 1)
    # x_t + (1 - t) u_t = x_1 for any t and x_0; float32 rounding of sums of order 1.
    torch.testing.assert_close(
        path.x_t + (1 - t) * path.u_t, x_1.repeat_interleave(timesteps, 0), rtol=0, atol=2e-6
    )


def test_times_of_one_sample_are_stratified_and_uniform_together(x_1: torch.Tensor):
    path = sample_path(x_1, torch.Generator().manual_seed(1), timesteps=4)
    times = path.t.view(64, 4)
    assert torch.equal((times * 4).floor(), torch.arange(4.0).expand(64, 4))
    # Inside its stratum t is uniform: mean 1/2 with a standard error of 0.29 / sqrt(256).
    inside = times * 4 - torch.arange(4.0)
    assert abs(inside.mean() - 0.5) < 4 * 0.018
    # 1 / sqrt(12); the standard error of a uniform's deviation is 0.13 / sqrt(256) = 0.008.
    assert inside.std() == pytest.approx(12**-0.5, abs=4 * 0.008)


def test_every_row_has_noise_of_its_own(x_1: torch.Tensor):
    path = sample_path(x_1, torch.Generator().manual_seed(1), timesteps=4)
    x_0 = (x_1.repeat_interleave(4, 0) - path.u_t).flatten(1)
    likeness = torch.corrcoef(x_0) - torch.eye(256)
    # Correlations of 16 independent normal values have a deviation of 1/4; equal rows have 1.
    assert likeness.abs().max() < 0.99
    # 4096 values: a standard error of 1 / sqrt(2 * 4096) = 0.011.
    assert x_0.std() == pytest.approx(1, abs=4 * 0.011)

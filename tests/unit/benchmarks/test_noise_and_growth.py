"""The arithmetic of the benchmarks of a gradient's noise and of a step's growth."""

from pathlib import Path

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def test_the_parts_of_a_gradient_s_noise_are_those_it_was_made_of():
    from gradient_variance import parts_of

    random, batches, size = np.random.default_rng(0), 400, 50
    common = random.normal(size=size) / size**0.5
    images = 2 * random.normal(size=(batches, 1, size)) / size**0.5
    points = 3 * random.normal(size=(batches, 2, size)) / size**0.5
    flat = (common + images + points).reshape(2 * batches, size)
    found = parts_of((flat @ flat.T).reshape(batches, 2, batches, 2))
    # Spreads over 400 batches of 50 numbers: about 0.05, 0.05 and 0.15.
    assert found["signal"] == pytest.approx(common @ common, abs=0.2)
    assert found["points"] == pytest.approx(9, abs=0.5)
    assert found["images"] == pytest.approx(4, abs=0.5)


def test_a_way_s_points_are_those_it_names():
    from gradient_variance import Way

    x_1 = torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(1))

    def noises(way: Way) -> torch.Tensor:
        path = way.draw(x_1, 4, torch.Generator().manual_seed(0))
        assert len(path.t) == 8 * way.points
        # u_t = x_1 - x_0, and x_t lies on the line between them.
        x_0 = x_1.repeat_interleave(way.points, dim=0) - path.u_t
        t = path.t.view(-1, 1, 1, 1)
        torch.testing.assert_close(path.x_t, x_0 + t * path.u_t)
        return x_0.unflatten(0, (2, 4, way.points))

    own, shared = noises(Way(2)), noises(Way(2, shared=True))
    assert (own[:, 0] - own[:, 1]).abs().min() > 0
    torch.testing.assert_close(shared, shared[:, :1].expand_as(shared))
    assert (shared[0] - shared[1]).abs().mean() > 0.1
    opposite = noises(Way(4, opposite=True))
    torch.testing.assert_close(opposite[:, :, :2], -opposite[:, :, 2:])
    t = Way(1, stretch=(0.2, 0.4)).draw(x_1, 4, torch.Generator().manual_seed(0)).t
    assert 0.2 < t.min() < t.max() < 0.4


def test_an_exponent_is_the_slope_of_the_logarithms():
    from growth import exponent

    cells = [{"value": value, "step": 0.3 * value**1.5} for value in (2, 4, 8, 16)]
    found = exponent(cells, "step")
    assert found["exponent"] == pytest.approx(1.5)
    assert found["standard_error"] == pytest.approx(0, abs=1e-9)
    assert np.isnan(exponent(cells[:2], "step")["standard_error"])

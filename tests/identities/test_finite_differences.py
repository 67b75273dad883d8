"""Finite differences of pairs: their gradient, and the surrogate that follows it."""

import pytest
import torch
from torch import Tensor

from adrpo.core.finite_differences import (
    difference_ratio,
    difference_surrogate,
    end_directions,
    half_differences,
)

EPSILON = 0.03


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def published(v: Tensor, v_old: Tensor, own: Tensor, other: Tensor, d_reward: float) -> Tensor:
    """FDFO's loss of one point in the paper's own time, where velocities point to the noise; of
    one sample, number by number."""
    numbers = v.numel()
    d = (own - other) / 2
    g = d / (sum(float(x) ** 2 for x in d.flatten()) / numbers + 1e-6)
    target = v_old - g
    squares = ((g**2).sum() - ((v - target) ** 2).sum()) / numbers
    q = torch.exp(squares)
    return -d_reward * q + abs(d_reward) * (q - 1) ** 2 / (2 * EPSILON)


def objective(v: Tensor, v_old: Tensor, x_1: Tensor, rewards: Tensor) -> Tensor:
    """The loss of each sample at one point of its trajectory, as the trainer puts it together."""
    log_ratio = difference_ratio(v, v_old, end_directions(x_1))
    return difference_surrogate(log_ratio, half_differences(rewards), clip_range=EPSILON)


@pytest.mark.parametrize("moved", [0.0, 1e-3, 0.05])
def test_loss_and_gradient_are_the_published_ones_with_velocities_turned(moved: float):
    x_1, v_old = drawn(6, 2, 3, seed=1), drawn(6, 2, 3, seed=2)
    v = (v_old + moved * drawn(6, 2, 3, seed=3)).requires_grad_()
    rewards = torch.tensor([2.0, 1.0, 0.3, 0.9, 0.5, 0.5], dtype=torch.float64)
    loss = objective(v, v_old, x_1, rewards)
    (gradient,) = torch.autograd.grad(loss.sum(), v)
    for row in range(6):
        other = row + 1 if row % 2 == 0 else row - 1
        theirs = (-v[row].detach()).requires_grad_()
        d_reward = float(rewards[row] - rewards[other]) / 2
        expected = published(theirs, -v_old[row], x_1[row], x_1[other], d_reward)
        # Their exponent is a difference of two squares of size 1 to 10: 1e-15 of that, in q; the
        # slope 1 / 0.03 of the square makes it 1e-13.
        torch.testing.assert_close(loss[row], expected, rtol=0, atol=1e-13)
        (by_theirs,) = torch.autograd.grad(expected, theirs)
        torch.testing.assert_close(gradient[row], -by_theirs, rtol=0, atol=1e-12)


def test_the_first_gradient_draws_the_velocity_to_the_better_end():
    """-2 dR g . dv / d theta / numbers, by a network of one layer and its own chain rule."""
    x_1, points, weight = drawn(4, 5, seed=4), drawn(4, 3, seed=5), drawn(3, 5, seed=6)
    weight.requires_grad_()
    rewards = torch.tensor([1.0, 3.0, 0.2, 0.1], dtype=torch.float64)
    v = points @ weight
    objective(v, v.detach(), x_1, rewards).sum().backward()
    expected = torch.zeros_like(weight)
    for row, other in ((0, 1), (1, 0), (2, 3), (3, 2)):
        d = (x_1[row] - x_1[other]) / 2
        g = d / (d @ d / 5 + 1e-6)
        expected += -2 * (rewards[row] - rewards[other]) / 2 * torch.outer(points[row], g) / 5
    assert weight.grad is not None
    # float64 rounding of sums of terms of size 1.
    torch.testing.assert_close(weight.grad, expected.detach(), rtol=0, atol=1e-13)
    # Against its gradient the velocity of both samples moves towards the better one's end.
    v = (points @ weight).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(v, v.detach(), x_1, rewards).sum(), v)
    assert (-gradient[:2] @ (x_1[1] - x_1[0]) > 0).all()


def test_swapping_the_ends_of_a_pair_changes_nothing():
    x_1, v_old = drawn(4, 3, 2, seed=7), drawn(4, 3, 2, seed=8)
    v, rewards = v_old + 0.01 * drawn(4, 3, 2, seed=9), drawn(4, seed=10)
    swapped = torch.tensor([1, 0, 3, 2])
    loss = objective(v, v_old, x_1, rewards)
    other = objective(v[swapped], v_old[swapped], x_1[swapped], rewards[swapped])
    # Differences only change their signs, which is exact.
    assert torch.equal(other, loss[swapped])
    # Both samples draw the velocity to the same side.
    pull = half_differences(rewards)[:, None, None] * end_directions(x_1)
    assert torch.equal(pull[0::2], pull[1::2])


def test_two_equal_samples_teach_nothing():
    """Without churn all d are 0, whatever the rewards say: a reward with noise may differ."""
    x_1 = drawn(2, 3, seed=11).repeat_interleave(2, 0)
    assert torch.equal(end_directions(x_1), torch.zeros_like(x_1))
    v_old = drawn(4, 3, seed=12)
    v = v_old.clone().requires_grad_()
    loss = objective(v, v_old, x_1, torch.tensor([1.0, 0.0, 2.0, 5.0], dtype=torch.float64))
    (gradient,) = torch.autograd.grad(loss.sum(), v)
    assert torch.equal(gradient, torch.zeros_like(v))
    assert loss.isfinite().all()


def test_equal_rewards_teach_nothing():
    v = drawn(2, 3, seed=13).requires_grad_()
    loss = objective(v, drawn(2, 3, seed=14), drawn(2, 3, seed=15), torch.full((2,), 0.7).double())
    (gradient,) = torch.autograd.grad(loss.sum(), v)
    assert torch.equal(gradient, torch.zeros_like(v)) and torch.equal(loss, torch.zeros(2).double())


def test_a_constant_of_both_rewards_changes_nothing():
    rewards = torch.tensor([0.5, 0.25, 1.0, 4.0])
    # Exact in float32: sums of a few powers of two.
    assert torch.equal(half_differences(rewards + 8), half_differences(rewards))


def test_the_surrogate_is_least_one_epsilon_beyond_one():
    """Unlike a clip it leads back from farther away, on either side."""
    for advantage, best in ((2.0, 1 + EPSILON), (-0.5, 1 - EPSILON)):
        ratios = best + torch.linspace(-0.02, 0.02, 401, dtype=torch.float64)
        losses = difference_surrogate(
            ratios.log(), torch.full((401,), advantage).double(), clip_range=EPSILON
        )
        assert ratios[losses.argmin()].item() == pytest.approx(best, abs=1e-4)


def test_the_ratio_keeps_its_digits_where_a_pair_lies_close():
    """g is then large: in float32 two squares of 1e4 would leave 1e-3 of a log q of 1e-2."""
    x_1 = torch.stack([torch.full((64,), 1.0), torch.full((64,), 1.0)]).double()
    x_1[1] += 0.02 * drawn(64, seed=16)
    v_old, change = drawn(2, 64, seed=17), 1e-4 * drawn(2, 64, seed=18)
    g = end_directions(x_1)
    assert g.square().mean() > 5e3
    exact = difference_ratio(v_old + change, v_old, g)
    found = difference_ratio((v_old + change).float(), v_old.float(), g.float())
    assert 1e-4 < exact.abs().max() < 1e-1
    # v of size 1 is rounded to 6e-8, times g of size 100, averaged over 64 numbers.
    assert (found - exact).abs().max() < 6e-8 * 100


def test_an_odd_number_of_samples_is_refused():
    with pytest.raises(ValueError, match="even number of rows, two for a pair, received 3"):
        half_differences(torch.ones(3))

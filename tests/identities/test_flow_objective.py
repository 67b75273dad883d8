"""The objective of equation 6: its two forms, its minimiser, its gradients, its special cases."""

import copy

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from adrpo import adaptive_coefficient, flow_objective, flow_target, velocity_divergence

SHAPE = (6, 3, 4, 5)
ELEMENTS = 3 * 4 * 5


def velocities(seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    v, u_t, v_ref = torch.randn(3, *SHAPE, generator=generator, dtype=dtype)
    return v.requires_grad_(), u_t, v_ref


def advantages_around(beta_0: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """Below, inside, on and beyond +-beta_0; the last row has a negative coefficient."""
    return torch.tensor([-2.5, -1.0, -0.3, 0.6, 1.0, 1.7], dtype=dtype) * beta_0


def column(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("beta_0", [0.04, 1.0, 3.0])
def test_two_terms_equal_one_regression_to_the_target(beta_0: float) -> None:
    v, u_t, v_ref = velocities(0)
    advantages = advantages_around(beta_0)
    beta = adaptive_coefficient(advantages, beta_0=beta_0, clip=None)
    two_term = flow_objective(v, u_t, v_ref, advantages, beta=beta)
    (two_term_gradient,) = torch.autograd.grad(two_term.sum(), v)

    target = flow_target(u_t, v_ref, advantages, beta_0=beta_0)
    constant = advantages * (beta_0 - advantages) / beta_0 * velocity_divergence(u_t, v_ref)
    fused = beta_0 * velocity_divergence(v, target) + constant
    (fused_gradient,) = torch.autograd.grad(fused.sum(), v)

    # float64: terms of size 10 that cancel, 60 of them summed, so 1e-13 is some 50 roundings.
    torch.testing.assert_close(two_term, fused, rtol=0, atol=1e-13)
    torch.testing.assert_close(two_term_gradient, fused_gradient, rtol=0, atol=1e-13)


@pytest.mark.parametrize("beta_0", [0.04, 1.0, 3.0])
def test_one_newton_step_lands_on_the_minimiser(beta_0: float) -> None:
    v, u_t, v_ref = velocities(1)
    advantages = advantages_around(beta_0)
    beta = adaptive_coefficient(advantages, beta_0=beta_0, clip=None)
    assert (beta < 0).any()

    def loss(values: Tensor) -> Tensor:
        return flow_objective(values, u_t, v_ref, advantages, beta=beta).sum()

    (gradient,) = torch.autograd.grad(loss(v), v)
    hessian = torch.autograd.functional.hessian(loss, v.detach())
    assert isinstance(hessian, Tensor)
    hessian = hessian.reshape(v.numel(), v.numel())
    step = torch.linalg.solve(hessian, gradient.flatten()).reshape(SHAPE)

    # The curvature is 2 beta_0 / n in every direction, whatever A is: convex, also for beta < 0.
    expected_hessian = 2 * beta_0 / ELEMENTS * torch.eye(v.numel(), dtype=v.dtype)
    # float64 rounding of sums of two coefficients of size 10.
    torch.testing.assert_close(hessian, expected_hessian, rtol=0, atol=1e-14)
    minimiser = v_ref + column(advantages / beta_0) * (u_t - v_ref)
    torch.testing.assert_close(v.detach() - step, minimiser, rtol=0, atol=1e-12)
    target = flow_target(u_t, v_ref, advantages, beta_0=beta_0)
    torch.testing.assert_close(target, minimiser, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_zero_advantage_is_the_fixed_penalty_bit_for_bit(dtype: torch.dtype) -> None:
    v, u_t, v_ref = velocities(2, dtype)
    zero = torch.zeros(len(v))
    beta = adaptive_coefficient(zero, beta_0=0.7, clip=(-1.0, 1.0))
    adaptive = flow_objective(v, u_t, v_ref, zero, beta=beta)
    fixed = 0.7 * velocity_divergence(v, v_ref)
    assert torch.equal(adaptive, fixed)
    (adaptive_gradient,) = torch.autograd.grad(adaptive.sum(), v)
    (fixed_gradient,) = torch.autograd.grad(fixed.sum(), v)
    assert torch.equal(adaptive_gradient, fixed_gradient)


@pytest.mark.parametrize("beta_0", [0.04, 0.1, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_rows_at_beta_0_never_read_the_reference(beta_0: float, dtype: torch.dtype) -> None:
    v, u_t, v_ref = velocities(3, dtype)
    # Clipping puts the advantage on beta_0 as its own dtype writes it: the coefficient is then 0.
    advantages = torch.tensor([9.0, -0.5, 9.0, 0.2, 9.0, 0.0]).clamp(-beta_0, beta_0)
    beta = adaptive_coefficient(advantages, beta_0=beta_0, clip=None)
    unread = advantages == beta_0
    assert torch.equal(beta == 0, unread)
    assert unread.sum() == 3 or beta_0 < 0.2

    poisoned = v_ref.clone()
    poisoned[unread] = torch.nan
    clean = flow_objective(v, u_t, v_ref, advantages, beta=beta)
    loss = flow_objective(v, u_t, poisoned, advantages, beta=beta)
    assert torch.equal(loss, clean)
    assert loss.isfinite().all()
    (gradient,) = torch.autograd.grad(loss.sum(), v)
    (clean_gradient,) = torch.autograd.grad(clean.sum(), v)
    assert torch.equal(gradient, clean_gradient)
    assert gradient.isfinite().all()

    target = flow_target(u_t, poisoned, advantages, beta_0=beta_0)
    assert torch.equal(target[unread], u_t[unread].to(target.dtype))
    assert target.isfinite().all()


def test_a_scalar_zero_coefficient_needs_no_reference() -> None:
    v, u_t, v_ref = velocities(4)
    advantages = advantages_around(1.0)
    loss = flow_objective(v, u_t, torch.full_like(v_ref, torch.nan), advantages, beta=0.0)
    expected = advantages * (v - u_t).square().mean(dim=(1, 2, 3))
    # The same float64 sum in another order.
    torch.testing.assert_close(loss, expected, rtol=1e-14, atol=0)


def test_a_nan_reference_is_not_hidden_where_it_is_read() -> None:
    v, u_t, v_ref = velocities(5)
    v_ref[2] = torch.nan
    loss = flow_objective(v, u_t, v_ref, torch.full((6,), 0.5), beta=torch.full((6,), 0.5))
    assert loss.isnan().tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize(
    ("advantage", "beta"), [(0.8, 0.0), (0.0, 0.8)], ids=["policy term", "divergence term"]
)
def test_each_term_alone_trains_the_policy_and_only_the_policy(
    advantage: float, beta: float
) -> None:
    torch.manual_seed(6)
    policy = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 5))
    reference = copy.deepcopy(policy)
    for parameter in reference.parameters():
        parameter.data.add_(0.1)
    x_t = torch.randn(4, 5)
    u_t = torch.randn(4, 5, requires_grad=True)
    advantages = torch.full((4,), advantage, requires_grad=True)
    coefficient = torch.full((4,), beta, requires_grad=True)
    flow_objective(policy(x_t), u_t, reference(x_t), advantages, beta=coefficient).mean().backward()
    for parameter in policy.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in reference.parameters())
    assert u_t.grad is None
    assert advantages.grad is None
    assert coefficient.grad is None


def test_first_step_has_no_divergence_and_gradient_2_a_of_reference_minus_target() -> None:
    _, u_t, v_ref = velocities(7)
    v = v_ref.clone().requires_grad_()
    advantages = advantages_around(1.0)
    beta = adaptive_coefficient(advantages, beta_0=1.0, clip=None)
    assert torch.equal(velocity_divergence(v, v_ref), torch.zeros(6, dtype=torch.float64))
    loss = flow_objective(v, u_t, v_ref, advantages, beta=beta)
    (gradient,) = torch.autograd.grad(loss.sum(), v)
    # The reduction is the mean over a sample's elements, hence the division by their number.
    expected = 2 * column(advantages) * (v_ref - u_t) / ELEMENTS
    # One float64 rounding per operation.
    torch.testing.assert_close(gradient, expected, rtol=1e-14, atol=0)


def test_samples_do_not_mix() -> None:
    v, u_t, v_ref = velocities(8)
    loss = flow_objective(v, u_t, v_ref, advantages_around(1.0), beta=0.5)
    (gradient,) = torch.autograd.grad(loss[3], v)
    touched = gradient.abs().sum(dim=(1, 2, 3)) > 0
    assert touched.tolist() == [False, False, False, True, False, False]


def test_bfloat16_velocities_are_reduced_in_float32() -> None:
    v, u_t, v_ref = velocities(9, torch.bfloat16)
    advantages = advantages_around(1.0, torch.float32)
    loss = flow_objective(v, u_t, v_ref, advantages, beta=0.5)
    exact = flow_objective(v.double(), u_t.double(), v_ref.double(), advantages.double(), beta=0.5)
    assert loss.dtype == torch.float32
    # float32 sums of 60 terms; bfloat16 arithmetic would be off by 1e-2.
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-5)


def test_target_keeps_no_graph() -> None:
    v, u_t, v_ref = velocities(10)
    assert not flow_target(v, v_ref, advantages_around(1.0), beta_0=1.0).requires_grad
    assert not flow_target(u_t, v, advantages_around(1.0), beta_0=1.0).requires_grad


@pytest.mark.parametrize("beta_0", [0.0, -1.0])
def test_target_refuses_a_loss_without_minimum(beta_0: float) -> None:
    _, u_t, v_ref = velocities(11)
    with pytest.raises(ValueError, match="beta_0 > 0"):
        flow_target(u_t, v_ref, advantages_around(1.0), beta_0=beta_0)


def test_shapes_are_checked_while_testing() -> None:
    v, u_t, v_ref = velocities(12)
    with pytest.raises(TypeCheckError):
        flow_objective(v, u_t, v_ref, torch.zeros(5), beta=1.0)
    with pytest.raises(TypeCheckError):
        flow_objective(v, u_t[:, :2], v_ref, torch.zeros(6), beta=1.0)

"""What each method weighs its samples by, and how the methods are related."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from adrpo.config import (
    AdrpoSection,
    AwmSection,
    CrdSection,
    DgpoSection,
    DiffusionNftSection,
    FixedBetaSection,
    OrwCfmW2Section,
    RaftSection,
)
from adrpo.core import flow_objective
from adrpo.core.controller import controlled
from adrpo.flow.methods import build_method
from adrpo.flow.methods.diffusion_nft import nft_objective
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.path.path_samples import PathSamples
from adrpo.flow.training.update import Batch

SETTINGS = [
    AdrpoSection(),
    AdrpoSection(only_positive=True),
    FixedBetaSection(method="fixed_beta"),
    OrwCfmW2Section(method="orw_cfm_w2"),
    OrwCfmW2Section(method="orw_cfm_w2", weight_mean="one"),
    RaftSection(method="raft", best=2),
    AwmSection(method="awm", advantage_scale="group"),
    DiffusionNftSection(method="diffusion_nft", advantage_scale="group"),
    DiffusionNftSection(method="diffusion_nft", advantage_scale="group", kl_beta=0.1),
    CrdSection(method="crd", advantage_scale="none"),
    DgpoSection(method="dgpo", advantage_scale="group"),
]
NAMES = [f"{s.method}-{i}" for i, s in enumerate(SETTINGS)]
GROUPS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
REWARDS = torch.tensor([1.0, 2.0, 4.0, 5.0, -1.0, 0.5, 0.0, 3.0])


def rows(seed: int = 0, count: int = 8) -> tuple[PathSamples, Tensor]:
    """Points of a path in two dimensions, and a reference velocity."""
    generator = torch.Generator().manual_seed(seed)
    x_t, u_t, v_ref = torch.randn((3, count, 1, 2), generator=generator, dtype=torch.float64)
    t = torch.rand(count, generator=generator, dtype=torch.float64)
    return PathSamples(t=t, x_t=x_t, u_t=u_t), v_ref


@pytest.mark.parametrize("settings", SETTINGS, ids=NAMES)
def test_groups_do_not_leak(settings):
    """Other rewards in the second group change nothing in the first."""
    method = build_method(settings)
    other = REWARDS.clone()
    other[4:] = torch.tensor([100.0, -3.0, 7.0, 7.0])
    first, second = method.weigh(REWARDS, GROUPS), method.weigh(other, GROUPS)
    for name in ("advantages", "clipped", "weight", "beta"):
        assert torch.equal(getattr(first, name)[:4], getattr(second, name)[:4]), name
    assert not torch.equal(first.weight[4:], second.weight[4:])


@pytest.mark.parametrize("settings", SETTINGS, ids=NAMES)
def test_a_constant_of_the_prompt_changes_nothing(settings):
    method = build_method(settings)
    shifted = REWARDS + torch.tensor([64.0] * 4 + [0.0] * 4)
    first, second = method.weigh(REWARDS, GROUPS), method.weigh(shifted, GROUPS)
    # 64 + r is exact to 8e-6 in float32.
    torch.testing.assert_close(first.weight, second.weight, rtol=0, atol=1e-4)


@pytest.mark.parametrize("settings", SETTINGS, ids=NAMES)
def test_an_unscored_sample_has_no_say(settings):
    """NaN leaves the others as if it had never been drawn, and has weight 0 itself."""
    method = build_method(settings)
    rewards = REWARDS.clone()
    rewards[0] = math.nan
    seen, alone = method.weigh(rewards, GROUPS), method.weigh(REWARDS[1:], GROUPS[1:])
    assert seen.weight[0] == 0
    # One operation of float32 in another order.
    torch.testing.assert_close(seen.weight[1:], alone.weight, rtol=1e-6, atol=0)
    assert seen.weight.isfinite().all() and seen.beta.isfinite().all()


@pytest.mark.parametrize("settings", SETTINGS, ids=NAMES)
def test_each_term_alone_has_a_gradient_and_the_reference_none(settings):
    method = build_method(settings)
    path, v_ref = rows()
    v_ref.requires_grad_()
    weights = method.weigh(REWARDS, GROUPS)
    v_old = rows(seed=9)[1].requires_grad_()
    for weight, beta in (
        (weights.weight.double(), torch.zeros(8, dtype=torch.float64)),
        (torch.zeros(8, dtype=torch.float64), weights.beta.double()),
    ):
        v = torch.zeros_like(path.u_t, requires_grad=True)
        batch = Batch(
            path=path,
            conditioning=Conditioning(prompt=torch.arange(8)),
            weights=replace(weights, weight=weight, beta=beta),
            v_old=v_old,
            of_group=torch.full((8, 1), 0.5, dtype=torch.float64),
        )
        method.loss(v, v_ref, batch).sum().backward()
        active = (weight != 0) | (beta != 0)
        if settings.method in ("diffusion_nft", "crd"):
            active = torch.ones_like(active)  # a weight of 0 is a reward in their losses
        assert v.grad is not None
        assert torch.equal(v.grad.flatten(1).abs().sum(1) > 0, active)
    assert v_ref.grad is None and v_old.grad is None


def test_adrpo_without_its_negative_side_is_the_penalty_alone_for_bad_samples():
    weights = build_method(AdrpoSection(only_positive=True)).weigh(REWARDS, GROUPS)
    bad = weights.advantages < 0
    assert torch.equal(weights.weight[bad], torch.zeros(int(bad.sum())))
    assert torch.equal(weights.beta[bad], torch.ones(int(bad.sum())))
    whole = build_method(AdrpoSection()).weigh(REWARDS, GROUPS)
    assert torch.equal(weights.weight[~bad], whole.weight[~bad])


def test_fixed_beta_differs_from_adrpo_in_beta_alone():
    adaptive = build_method(AdrpoSection()).weigh(REWARDS, GROUPS)
    fixed = build_method(FixedBetaSection(method="fixed_beta")).weigh(REWARDS, GROUPS)
    assert torch.equal(adaptive.weight, fixed.weight)
    assert torch.equal(adaptive.beta, fixed.beta - fixed.weight)


def test_orw_weights_are_exponential_in_the_reward():
    tau = 0.7
    weights = build_method(OrwCfmW2Section(method="orw_cfm_w2", temperature=tau)).weigh(
        REWARDS, GROUPS
    )
    ratio = weights.weight[3] / weights.weight[0]
    # Up to a factor of the prompt: float32 exponentials of values below 3.
    torch.testing.assert_close(ratio, (tau * (REWARDS[3] - REWARDS[0])).exp(), rtol=1e-5, atol=0)
    one = build_method(
        OrwCfmW2Section(method="orw_cfm_w2", temperature=tau, weight_mean="one")
    ).weigh(REWARDS, GROUPS)
    expected = torch.cat([4 * (tau * g).softmax(0) for g in REWARDS.split(4)])
    torch.testing.assert_close(one.weight, expected, rtol=1e-5, atol=0)


def test_raft_keeps_the_best_and_averages_over_them():
    weights = build_method(RaftSection(method="raft")).weigh(REWARDS, GROUPS)
    assert weights.weight.tolist() == [0, 0, 0, 4, 0, 0, 0, 4]
    assert weights.beta.count_nonzero() == 0
    ties = build_method(RaftSection(method="raft")).weigh(torch.ones(4), torch.zeros(4).long())
    assert ties.weight.tolist() == [4, 0, 0, 0]


def test_awm_is_adrpo_without_its_divergence_term():
    """The same weight where the clip allows it, and beta 0."""
    awm = build_method(
        AwmSection(method="awm", advantage_clip=(-5.0, 5.0), advantage_scale="none")
    ).weigh(REWARDS, GROUPS)
    adrpo = build_method(AdrpoSection(beta_0=5.0, advantage_clip=(-5.0, 5.0))).weigh(
        REWARDS, GROUPS
    )
    torch.testing.assert_close(5 * awm.weight, adrpo.weight, rtol=1e-6, atol=0)
    assert awm.beta.count_nonzero() == 0


def gradient(loss, v: Tensor) -> Tensor:
    v = v.clone().requires_grad_()
    loss(v).sum().backward()
    assert v.grad is not None
    return v.grad


@pytest.mark.parametrize("beta", [0.1, 1.0, 3.0])
def test_unweighted_nft_is_adrpo_with_a_moving_anchor(beta: float):
    """Gradient of NFT without adaptive weighting = that of eq. 6 with v_ref = v_old, beta_0 = beta
    and A = 2 r - 1, and the two losses differ by what does not depend on v."""
    path, v_old = rows()
    r = torch.linspace(0, 1, 8, dtype=torch.float64)
    scale = torch.full((8,), beta, dtype=torch.float64)

    def nft(v: Tensor) -> Tensor:
        return nft_objective(v, v_old, path, r, beta=scale, adaptive_weighting=False)

    def adrpo(v: Tensor) -> Tensor:
        return flow_objective(v, path.u_t, v_old, 2 * r - 1, beta=scale - (2 * r - 1))

    at = [rows(seed)[1] for seed in (1, 2)]
    for v in at:
        # Rounding of float64 in a handful of operations on values of size 10.
        torch.testing.assert_close(gradient(nft, v), gradient(adrpo, v), rtol=0, atol=1e-12)
    constants = [nft(v) - adrpo(v) for v in at]
    torch.testing.assert_close(constants[0], constants[1], rtol=0, atol=1e-12)


def test_adaptive_weighting_divides_by_the_error_of_x_1():
    """One row by hand: r = 1 leaves |x_1(v+) - x_1|^2 / mean |x_1(v+) - x_1|."""
    path, v_old = rows(count=1)
    v = rows(seed=5, count=1)[1]
    one = torch.ones(1, dtype=torch.float64)
    got = nft_objective(v, v_old, path, one, beta=0.5 * one, adaptive_weighting=True)
    x_1 = path.x_t + (1 - path.t) * path.u_t
    error = path.x_t + (1 - path.t) * (0.5 * v_old + 0.5 * v) - x_1
    expected = error.square().mean() / error.abs().mean() / 0.5
    torch.testing.assert_close(got[0], expected, rtol=1e-12, atol=0)


def test_the_controller_moves_beta_towards_its_target():
    assert controlled(1.0, divergence=0.02, target=0.02) == 1.0
    assert controlled(1.0, divergence=0.021, target=0.02) == pytest.approx(1.005)
    # Errors beyond 20 % count as 20 %.
    assert controlled(2.0, divergence=9.0, target=0.02) == pytest.approx(2.04)
    assert controlled(2.0, divergence=0.0, target=0.02) == pytest.approx(1.96)
    method = build_method(FixedBetaSection(method="fixed_beta", target_divergence=0.02))
    method.coefficient.observe(1.0)
    assert method.weigh(REWARDS, GROUPS).beta[0] == pytest.approx(1.02)
    copy = build_method(FixedBetaSection(method="fixed_beta", target_divergence=0.02))
    copy.coefficient.load_state(method.coefficient.state())
    assert torch.equal(copy.weigh(REWARDS, GROUPS).beta, method.weigh(REWARDS, GROUPS).beta)


def test_a_checkpoint_of_before_without_a_coefficient_still_loads():
    method = build_method(OrwCfmW2Section(method="orw_cfm_w2", beta_0=0.3))
    method.coefficient.load_state({})
    assert method.weigh(REWARDS, GROUPS).beta[0] == pytest.approx(0.3)


@pytest.mark.parametrize("settings", SETTINGS, ids=NAMES)
def test_rows_of_a_batch_keep_what_belongs_together(settings):
    path, _ = rows()
    weights = build_method(settings).weigh(REWARDS, GROUPS)
    batch = Batch(path=path, conditioning=Conditioning(prompt=torch.arange(8)), weights=weights)
    chosen = torch.tensor([6, 1, 1])
    part = batch.select(chosen)
    assert len(part) == 3
    assert torch.equal(part.conditioning.prompt, chosen)
    assert torch.equal(part.path.t, path.t[chosen]) and torch.equal(part.path.u_t, path.u_t[chosen])
    for name in ("advantages", "clipped", "weight", "beta", "taken"):
        assert torch.equal(getattr(part.weights, name), getattr(weights, name)[chosen]), name

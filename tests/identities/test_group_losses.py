"""Losses that compare a sample with an older policy and with the others of its prompt."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from adrpo.config import CrdSection, DgpoSection, DiffusionNftSection
from adrpo.flow.methods import build_method
from adrpo.flow.methods.base import Method
from adrpo.flow.methods.crd import Crd, implicit_reward
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.path.path_samples import PathSamples, sample_path
from adrpo.flow.training.stopwatch import Stopwatch
from adrpo.flow.training.update import Batch, accumulate_gradient
from adrpo.runs.processes import Share

REWARDS = torch.tensor([1.0, 2.0, 4.0, 5.0, -1.0, 0.5, 0.0, 3.0])
GROUPS = torch.arange(8) // 4
SHAPE = (1, 2, 3)
POINTS = 2


class Model:
    """The velocity w x_t of one weight, and another one of other weights while it is active."""

    def __init__(self, weight: float, stand_in: float | None = None) -> None:
        self.weight = torch.tensor(weight, dtype=torch.float64, requires_grad=True)
        self.now = self.weight
        self.stand_in = stand_in
        self.calls = 0

    def velocity(self, rows: Batch) -> Tensor:
        self.calls += len(rows)
        return self.now * rows.path.x_t

    def other(self, weight: float) -> "Other":
        return Other(self, weight)


class Other:
    """A model beside the policy, as an anchor."""

    def __init__(self, model: Model, weight: float) -> None:
        self.model, self.weight = model, weight

    def active(self) -> "Other":
        return self

    def __enter__(self) -> None:
        self.model.now = torch.tensor(self.weight, dtype=torch.float64)

    def __exit__(self, *_: object) -> None:
        self.model.now = self.model.weight


def points(seed: int = 0) -> PathSamples:
    draws = torch.Generator().manual_seed(seed)
    rows = 8 * POINTS
    x_t, u_t = torch.randn((2, rows, *SHAPE), generator=draws, dtype=torch.float64)
    return PathSamples(t=torch.rand(rows, generator=draws).double(), x_t=x_t, u_t=u_t)


def batch_of(method: Method, rewards: Tensor = REWARDS) -> Batch:
    sample = torch.arange(8).repeat_interleave(POINTS)
    weights = method.weigh(rewards, GROUPS).select(sample)
    weights = replace(weights, weight=weights.weight.double(), beta=weights.beta.double())
    return Batch(
        path=points(),
        conditioning=Conditioning(prompt=sample),
        weights=weights,
        group=GROUPS[sample] * POINTS + torch.arange(len(sample)) % POINTS,
    )


def step(
    method: Method,
    batch: Batch,
    *,
    policy: float = 0.3,
    old: float = 0.1,
    ref: float = -0.2,
    micro_batch: int = 16,
) -> tuple[float, float, Model]:
    """Loss, its derivative by the policy's one weight, and the model."""
    model = Model(policy)
    losses = accumulate_gradient(
        model.velocity,
        model.other(ref),  # type: ignore[arg-type]
        method,
        batch,
        old=model.other(old),  # type: ignore[arg-type]
        micro_batch=micro_batch,
        stopwatch=Stopwatch(torch.device("cpu")),
    )
    assert model.weight.grad is not None
    return losses.loss, float(model.weight.grad), model


def mean_square(values: Tensor) -> Tensor:
    return values.square().flatten(1).mean(1)


def crd_by_hand(
    method: Crd, batch: Batch, weight: Tensor, *, old: float, ref: float, slopes: list[float]
) -> Tensor:
    """The paper's loss, prompt by prompt and point by point, all rows at once."""
    settings, path = method.settings, batch.path
    v, v_old, v_ref = (w * path.x_t for w in (weight, old, ref))
    scale = 1.0, 1.0
    if settings.error_weighting:
        scale = tuple((u - path.u_t).abs().flatten(1).mean(1).detach() for u in (v, v_old))  # type: ignore[assignment]
    implicit = mean_square(v_old - path.u_t) / scale[1] - mean_square(v - path.u_t) / scale[0]
    r, total = batch.weights.weight, torch.zeros((), dtype=torch.float64)
    for group in batch.group.unique():
        rows = batch.group == group
        for slope in slopes:
            share = (slope * r[rows]).softmax(0)
            center = (share * implicit[rows].detach()).sum()
            reward_center = (share * r[rows]).sum()
            b = settings.implicit_scale
            square = (b * (implicit[rows] - center) - (r[rows] - reward_center)) ** 2
            total = total + settings.advantage_clip / b * square.sum() / len(slopes)
    held = batch.weights.beta * mean_square(v - v_ref)
    return (total + held.sum()) / len(r)


@pytest.mark.parametrize("weighting", [True, False])
@pytest.mark.parametrize("centering", ["uniform", "softmax"])
@pytest.mark.parametrize("micro_batch", [16, 5])
def test_crd_is_the_papers_formula(weighting: bool, centering: str, micro_batch: int) -> None:
    settings = CrdSection.model_validate(
        {
            "method": "crd",
            "advantage_scale": "none",
            "error_weighting": weighting,
            "centering": centering,
            "centering_temperature": 0.3,
            "implicit_scale": 0.7,
        }
    )
    method = build_method(settings)
    assert isinstance(method, Crd)
    batch = batch_of(method)
    loss, slope, model = step(method, batch, micro_batch=micro_batch)
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    slopes = [0.0] if centering == "uniform" else [1 / 0.3, -1 / 0.3]
    expected = crd_by_hand(method, batch, weight, old=0.1, ref=-0.2, slopes=slopes)
    expected.backward()
    # float64; rewards and coefficients were made in float32, the same on both sides.
    assert loss == pytest.approx(expected.item(), rel=1e-9)
    assert slope == pytest.approx(float(weight.grad), rel=1e-9)
    # Reference, old policy, implicit rewards, and the gradient.
    assert model.calls == 4 * 16


def test_crd_at_the_old_policy_has_no_implicit_reward_and_pulls_towards_the_reward() -> None:
    path = points()
    v = 0.4 * path.x_t
    assert torch.equal(
        implicit_reward(v, v, path.u_t, error_weighting=True), torch.zeros(16).double()
    )


def test_crd_does_not_see_a_constant_of_the_prompt() -> None:
    method = build_method(CrdSection(method="crd", advantage_scale="batch"))
    shifted = REWARDS + torch.tensor([8.0] * 4 + [-2.0] * 4)
    first, second = (step(method, batch_of(method, r)) for r in (REWARDS, shifted))
    # Rewards of size 10 in float32.
    assert first[:2] == pytest.approx(second[:2], rel=1e-5)


def test_crd_leaves_a_sample_without_a_score_out_of_loss_and_means() -> None:
    method = build_method(CrdSection(method="crd", advantage_scale="none"))
    rewards = REWARDS.clone()
    rewards[0] = torch.nan
    seen = batch_of(method, rewards)
    without = seen.select(torch.arange(POINTS, 16))
    losses = [step(method, batch)[0] * len(batch) for batch in (seen, without)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_dgpo_is_the_papers_formula() -> None:
    method = build_method(DgpoSection(method="dgpo", beta=2.0))
    batch = batch_of(method)
    loss, slope, _ = step(method, batch, micro_batch=6)
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    path, a = batch.path, batch.weights.weight
    d, d_ref = (mean_square(w * path.x_t - path.u_t) for w in (weight, 0.1))
    total = torch.zeros((), dtype=torch.float64)
    for group in batch.group.unique():
        rows = batch.group == group
        w_g = torch.sigmoid(2.0 * (a[rows] * (d - d_ref)[rows]).mean()).detach()
        total = total + (w_g * a[rows] * d[rows]).sum()
    (total / 16).backward()
    assert loss == pytest.approx(total.item() / 16, rel=1e-9)
    assert slope == pytest.approx(float(weight.grad), rel=1e-9)


def test_dgpo_slows_down_as_the_policy_learns_the_preference() -> None:
    """w_g is 1/2 at the reference, above it on the wrong side, below it on the right one."""
    method = build_method(DgpoSection(method="dgpo", beta=50.0))
    batch = batch_of(method)
    at = method.weigh(REWARDS, GROUPS).select(torch.arange(8).repeat_interleave(POINTS))
    for gap, compare in ((0.0, "equal"), (0.1, "greater"), (-0.1, "less")):
        found = method.of_group(gap * at.weight, at, batch.group)
        half = torch.full_like(found, 0.5)
        assert getattr(torch, {"equal": "eq", "greater": "gt", "less": "lt"}[compare])(
            found, half
        ).all()


def test_samples_of_a_prompt_share_their_points() -> None:
    x_1 = torch.randn((6, *SHAPE), generator=torch.Generator().manual_seed(1))

    def draw(share: Share | None = None) -> PathSamples:
        own = x_1 if share is None else share.of(x_1)
        return sample_path(
            own, torch.Generator().manual_seed(2), timesteps=2, group_size=3, share=share
        )

    whole = draw()
    t = whole.t.view(2, 3, 2)
    assert torch.equal(t[:, 0], t[:, 1]) and torch.equal(t[:, 0], t[:, 2])
    assert not torch.equal(t[0, 0], t[1, 0])
    x_0 = whole.x_t - whole.t.view(-1, 1, 1, 1) * whole.u_t
    x_0 = x_0.view(2, 3, 2, *SHAPE)
    torch.testing.assert_close(x_0[:, 0], x_0[:, 1], rtol=0, atol=1e-6)
    # Stratified: one in each half.
    assert (t[:, :, 0] < 0.5).all() and (t[:, :, 1] >= 0.5).all()
    part = draw(Share(2, 6, 6))
    assert torch.equal(part.t, whole.t[4:]) and torch.equal(part.x_t, whole.x_t[4:])


def test_nft_is_held_to_the_base_beside_its_own_old_policy() -> None:
    """The penalty adds kl_beta |v - v_ref|^2, and loss_weight multiplies the rest alone."""
    plain = {"method": "diffusion_nft", "advantage_scale": "group"}
    alone = build_method(DiffusionNftSection.model_validate(plain))
    loss, slope, model = step(alone, batch_of(alone))
    assert model.calls == 2 * 16  # no reference
    held = build_method(
        DiffusionNftSection.model_validate(plain | {"kl_beta": 0.25, "loss_weight": 5.0})
    )
    batch = batch_of(held)
    more, steeper, model = step(held, batch)
    weight = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    penalty = 0.25 * mean_square((weight + 0.2) * batch.path.x_t).mean()
    penalty.backward()
    assert more == pytest.approx(5 * loss + penalty.item(), rel=1e-9)
    assert steeper == pytest.approx(5 * slope + float(weight.grad), rel=1e-9)
    assert model.calls == 3 * 16

"""Schedules of the penalty's coefficient: their formulas, their directions, their state."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from adrpo.coefficient import Coefficient, schedule_of
from adrpo.config import AdrpoSection, AwmSection, OrwCfmW2Section
from adrpo.config.schedules import (
    AdaptiveSchedule,
    FixedSchedule,
    GatedSchedule,
    MixturePartSection,
    MixtureSchedule,
    RewardAdaptiveSchedule,
    SignGatedSchedule,
)
from adrpo.core import schedules
from adrpo.core.schedules import StepSamples, disagreement
from adrpo.flow.methods import build_method

A = torch.tensor([1.5, 0.4, 0.0, -0.2, -3.0])
GATED = GatedSchedule.model_validate({"schedule": "gated", "scores": [{"name": "aesthetic"}]})
PLAIN = [
    FixedSchedule(),
    AdaptiveSchedule(),
    SignGatedSchedule(schedule="sign_gated"),
    RewardAdaptiveSchedule(schedule="reward_adaptive", bound=2.0),
]


def samples(advantages: Tensor = A, **scores: Tensor) -> StepSamples:
    return StepSamples(advantages=advantages, rewards=advantages, scores=scores)


def beta(section, *, beta_0: float = 1.0, advantages: Tensor = A, **scores: Tensor) -> Tensor:
    return Coefficient(section, beta_0).of(samples(advantages, **scores))


def test_each_schedule_by_hand() -> None:
    expected = {
        "fixed": [0.5, 0.5, 0.5, 0.5, 0.5],
        # A is clipped to +-beta_0 = +-0.5.
        "adaptive": [0.0, 0.1, 0.5, 0.7, 1.0],
        "sign_gated": [0.0, 0.0, 0.5, 1.0, 1.0],
        # 1e-4 + 0.4999 r, r = (A / 2 + 1) / 2 in [0, 1].
        "reward_adaptive": [1e-4 + 0.4999 * r for r in (0.875, 0.6, 0.5, 0.45, 0.0)],
    }
    for section in PLAIN:
        got = beta(section, beta_0=0.5)
        # One rounding of float32 numbers below 1.
        assert got.tolist() == pytest.approx(expected[section.schedule], abs=1e-7), section


def test_adrpo_and_crd_hold_in_opposite_directions() -> None:
    """The question that the schedules disagree about: adaptive falls with A, CRD's rises."""
    assert (beta(AdaptiveSchedule()).diff() >= 0).all()  # A is sorted downwards
    assert (beta(PLAIN[3]).diff() <= 0).all()


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=8), st.floats(0.01, 5))
def test_no_schedule_outside_the_regression_is_negative(values: list[float], beta_0: float) -> None:
    for section in PLAIN:
        got = beta(section, beta_0=beta_0, advantages=torch.tensor(values))
        assert (got >= 0).all() and (got <= 2 * beta_0 * (1 + 1e-6)).all()


def test_a_mixture_is_the_weighted_mean_of_its_parts() -> None:
    parts = [
        MixturePartSection(weight=w, coefficient=s)
        for w, s in zip((1, 2, 3, 4), PLAIN, strict=True)
    ]
    mixed = beta(MixtureSchedule(schedule="mixture", parts=tuple(parts)), beta_0=0.5)
    alone = [beta(section, beta_0=0.5) for section in PLAIN]
    expected = sum(w * value for w, value in zip((0.1, 0.2, 0.3, 0.4), alone, strict=True))
    torch.testing.assert_close(mixed, expected)
    half = MixtureSchedule.model_validate(
        {
            "schedule": "mixture",
            "parts": [
                {"coefficient": {"schedule": "adaptive"}},
                {"coefficient": {"schedule": "fixed"}},
            ],
        }
    )
    assert half.follows and not half.scorers
    # Half of ADRPO: beta_0 - A / 2.
    torch.testing.assert_close(beta(half, beta_0=4.0), 4 - A / 2)


# --- the gate ---


def test_the_gated_sample_is_the_one_that_only_the_reward_likes() -> None:
    generator = torch.Generator().manual_seed(0)
    rewards = torch.randn(40, generator=generator)
    # Others agree but for noise, and for the sample that gamed the reward.
    other = rewards + 0.3 * torch.randn(40, generator=generator)
    second = rewards + 0.3 * torch.randn(40, generator=generator)
    rewards[7] = 9.0
    other[7] = second[7] = -9.0
    got = beta(GATED, beta_0=0.1, advantages=rewards, aesthetic=other, image_reward=second)
    doubted = disagreement(rewards, {"a": other, "b": second})
    assert int(doubted.argmax()) == 7 and got[7] > 0
    chosen = got > 0
    # The mean of beta over the batch is beta_0: that of the penalty over the gated rows.
    assert got.mean() == pytest.approx(0.1) and 1 <= int(chosen.sum()) <= 4
    assert doubted[chosen].min() > doubted[~chosen].max()


def test_where_all_scorers_agree_none_is_gated() -> None:
    assert beta(GATED, aesthetic=3 * A + 1).tolist() == [0] * len(A)


def test_ranks_and_not_values_decide_and_ties_share_theirs() -> None:
    other = torch.tensor([0.0, 1.0, 2.0, 0.5, 0.1])
    first = disagreement(A, {"other": other})
    torch.testing.assert_close(first, disagreement(A.exp(), {"other": other**3}))
    tied = disagreement(torch.tensor([1.0, 1.0]), {"other": torch.tensor([2.0, 1.0])})
    # Ranks 1.5 and 1.5 against 1 and 2, of two samples.
    assert tied.tolist() == [-0.25, 0.25]


def test_a_sample_without_a_score_is_ranked_with_nobody() -> None:
    rewards = torch.tensor([math.nan, *A.tolist()])
    other = torch.tensor([5.0, 0.0, 1.0, 2.0, 0.5, 0.1])
    got = beta(GATED, advantages=rewards, aesthetic=other)
    assert got[0] == 0
    whole, alone = disagreement(rewards, {"o": other})[1:], disagreement(A, {"o": other[1:]})
    torch.testing.assert_close(whole, alone)
    nothing = torch.full((3,), math.nan)
    assert beta(GATED, advantages=nothing, aesthetic=nothing).tolist() == [0, 0, 0]


def test_the_share_follows_the_mean_of_the_last_twenty_steps() -> None:
    """Times 1.1 above all of them, times 0.9 below all, bounded by 0.2 and 0.02."""
    coefficient = Coefficient(GATED, 1.0)
    agree = torch.arange(10.0)

    def step(doubt: float) -> float:
        """``doubt``: how far one of ten samples is moved down by the other scorer, in ranks."""
        other = agree.clone()
        other[9] = 9 - doubt - 0.5
        coefficient.of(samples(agree, aesthetic=other))
        return coefficient.learned["share"]

    assert step(3) == 0.1  # the first: nothing to compare with
    assert step(5) == pytest.approx(0.11)
    assert step(4) == pytest.approx(0.11)  # between
    assert step(1) == pytest.approx(0.099)
    for doubt in (6, 7, 8, 9):
        step(doubt)
    kept = coefficient.state()
    assert len(kept["learned"]["recent"]) == 8
    for _ in range(25):
        step(5)
    assert len(coefficient.learned["recent"]) == 20
    for share, bound in ((0.199, 0.2), (0.021, 0.02)):
        coefficient.learned = {"share": share, "recent": [0.5 if bound < 0.1 else 0.0]}
        assert step(5) == bound
    again = Coefficient(GATED, 1.0)
    again.load_state(kept)
    assert again.state() == kept


def test_a_gate_without_other_scorers_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one other scorer"):
        schedules.gated(samples(), {}, beta_0=1.0, share=0.1)


def test_a_mixture_carries_the_state_of_its_parts() -> None:
    parts = [MixturePartSection(coefficient=GATED), MixturePartSection(coefficient=FixedSchedule())]
    section = MixtureSchedule(schedule="mixture", parts=tuple(parts))
    assert [term.name for term in section.scorers] == ["aesthetic"]
    mixed, alone = Coefficient(section, 1.0), Coefficient(GATED, 1.0)
    other = torch.tensor([0.0, 1.0, 2.0, 0.5, 0.1])
    for _ in range(3):
        got = mixed.of(samples(aesthetic=other))
        torch.testing.assert_close(got, (1 + alone.of(samples(aesthetic=other))) / 2)
    assert mixed.state()["learned"]["parts"][0] == alone.state()["learned"]


# --- in a method ---

GROUPS = torch.tensor([0, 0, 0, 0])
REWARDS = torch.tensor([3.0, 1.0, 0.0, 0.0])


def test_the_regression_has_one_clipped_advantage_in_both_terms() -> None:
    settings = AdrpoSection(beta_0=0.5, advantage_clip=(-1.0, 1.0), allow_negative_beta=True)
    weights = build_method(settings).weigh(REWARDS, GROUPS)
    assert torch.equal(weights.beta, 0.5 - weights.weight)
    assert weights.weight.tolist() == [1, 0, -1, -1]


def test_another_loss_clips_in_the_coefficient_alone() -> None:
    """AWM's A is divided by 5; ORW's stays in units of the reward."""
    adaptive = AdaptiveSchedule()
    awm = AwmSection(method="awm", beta_0=0.3, coefficient=adaptive, advantage_scale="none")
    weights = build_method(awm).weigh(REWARDS, GROUPS)
    assert weights.weight.tolist() == pytest.approx([0.4, 0.0, -0.2, -0.2])
    assert weights.beta.tolist() == pytest.approx([0.0, 0.3, 0.5, 0.5])
    orw = OrwCfmW2Section(method="orw_cfm_w2", beta_0=0.3, coefficient=adaptive)
    weights = build_method(orw).weigh(REWARDS, GROUPS)
    assert weights.beta.tolist() == pytest.approx([0.0, 0.3, 0.6, 0.6])


def test_scores_reach_the_schedule_of_a_method() -> None:
    method = build_method(AdrpoSection(coefficient=GATED))
    other = {"aesthetic": torch.tensor([0.0, 1.0, 3.0, 2.0])}
    weights = method.weigh(REWARDS, GROUPS, other)
    assert weights.beta.tolist() == [4, 0, 0, 0]
    assert weights.weight.tolist() == [1, 0, -1, -1]


def test_a_schedule_of_a_section_is_its_function_with_its_keys() -> None:
    section = RewardAdaptiveSchedule(schedule="reward_adaptive", bound=3.0, least=0.01)
    got, _ = schedule_of(section, clip=None)(samples(), {}, beta_0=2.0)
    expected, _ = schedules.reward_adaptive(samples(), {}, beta_0=2.0, bound=3.0, least=0.01)
    assert torch.equal(got, expected)
    clipped = schedule_of(AdaptiveSchedule(), clip=(-0.1, 0.1))(samples(), {}, beta_0=2.0)[0]
    plain = partial(schedules.adaptive, clip=None)(samples(), {}, beta_0=2.0)[0]
    assert torch.equal(plain, 2 - A) and torch.equal(clipped, 2 - A.clamp(-0.1, 0.1))

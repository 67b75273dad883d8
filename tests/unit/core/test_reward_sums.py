"""Normalised terms of a reward: identities, a reference in NumPy, exclusions, the running state."""

import json
import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor

from adrpo import group_advantages
from adrpo.config.shared import Normalization
from adrpo.core.reward_sums import Moments, RewardNormalization, normalize_then_sum

KINDS: tuple[RewardNormalization, ...] = get_args(RewardNormalization)
kinds = pytest.mark.parametrize("kind", KINDS)
normalizing = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "none"])

GROUPS = torch.tensor([4, 4, 4, 4, 0, 0, 0, 9, 9, 9])
WEIGHTS = torch.tensor([1.0, -0.5, 3.0], dtype=torch.float64)


def values(seed: int = 0) -> Tensor:
    """Three terms in units of their own, [3, 10], float64."""
    draws = np.random.default_rng(seed)
    unlike = draws.normal(size=(3, len(GROUPS)))
    return torch.tensor(unlike * [[0.02], [30.0], [1.0]] + [[0.3], [-700.0], [0.0]])


def by_hand(terms: Tensor, kind: str, groups: Tensor = GROUPS, before: Any = None) -> Any:
    """The sum in NumPy's float64, over samples that all terms score; ``before``, [3, samples], are
    the values of earlier batches."""
    scores = terms.double().numpy()
    whole = np.isfinite(scores).all(0)
    total = np.where(whole, 0.0, np.nan)
    for weight, own, row in zip(WEIGHTS.tolist(), scores, range(3), strict=True):
        z = own.copy()
        for place in np.flatnonzero(whole):
            pool = own[whole & (groups.numpy() == int(groups[place]))]
            if kind == "running":
                pool = own[whole] if before is None else np.append(before[row], own[whole])
            if kind != "none":
                z[place] = (own[place] - pool.mean()) / pool.std() if pool.std() else 0.0
        total = total + weight * np.where(whole, z, np.nan)
    return total


def summed(
    terms: Tensor, kind: RewardNormalization, moments: Moments | None = None, **named: Any
) -> tuple[Tensor, Moments]:
    weights = named.pop("weights", WEIGHTS)
    groups = named.pop("groups", GROUPS)
    return normalize_then_sum(terms, weights, groups, moments or {}, normalization=kind)


def near(found: Tensor, expected: Any, within: float = 1e-10) -> None:
    """float64; -700 in the deviation of 30 costs a digit or two."""
    torch.testing.assert_close(
        found, torch.as_tensor(expected), rtol=within, atol=within, equal_nan=True
    )


@kinds
@given(data=st.data())
@settings(max_examples=40, deadline=None, derandomize=True)
def test_it_is_the_sum_that_numpy_makes(kind: RewardNormalization, data: Any) -> None:
    count = data.draw(st.integers(1, 12))
    number = st.floats(-1e3, 1e3, width=32) | st.just(math.nan) | st.sampled_from([0.0, 5.0])
    rows = [data.draw(st.lists(number, min_size=count, max_size=count)) for _ in range(3)]
    groups = torch.tensor(data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)))
    terms = torch.tensor(rows, dtype=torch.float64)
    spread = [of[of.isfinite()] for of in terms]
    # Where values are one up to rounding, a deviation is noise: the tests below have these.
    if any(
        len(of) and 0 < float(of.abs().max() * 1e-6) > float(of.std(correction=0)) for of in spread
    ):
        return
    found, _ = summed(terms, kind, groups=groups)
    near(found, by_hand(terms, kind, groups), within=1e-6)


def test_none_is_the_weighted_sum_bit_for_bit() -> None:
    """As ``scoring.score`` sums: term after term, in float32."""
    terms, weights = values().float(), WEIGHTS.float()
    expected = torch.zeros(len(GROUPS))
    for weight, term in zip(weights.tolist(), terms, strict=True):
        expected = expected + weight * term
    found, moments = summed(terms, "none", weights=weights)
    assert torch.equal(found, expected) and moments == {}


def test_one_term_normalised_in_its_group_is_its_scaled_advantage() -> None:
    term = values()[:1]
    found, _ = summed(term, "group", weights=torch.tensor([2.0]))
    assert torch.equal(found, 2 * group_advantages(term[0], GROUPS, scale="group"))


@normalizing
def test_units_and_zeros_of_terms_do_not_matter(kind: RewardNormalization) -> None:
    factor = torch.tensor([[1e3], [0.1], [7.0]], dtype=torch.float64)
    shift = torch.tensor([[5.0], [-3.0], [100.0]], dtype=torch.float64)
    near(summed(values() * factor + shift, kind)[0], summed(values(), kind)[0])


def test_of_groups_a_term_may_even_have_a_unit_for_each_prompt() -> None:
    factor = torch.where(GROUPS == 4, 100.0, 1.0).double()
    near(summed(values() * factor, "group")[0], summed(values(), "group")[0])
    running = summed(values() * factor, "running")[0]
    assert (running - summed(values(), "running")[0]).abs().max() > 0.1


@normalizing
def test_weights_come_after_the_normalisation(kind: RewardNormalization) -> None:
    ones = [summed(values()[k : k + 1], kind, weights=torch.ones(1))[0] for k in range(3)]
    expected = sum(w * z for w, z in zip(WEIGHTS.tolist(), ones, strict=True))
    near(summed(values(), kind)[0], expected)


@normalizing
@pytest.mark.parametrize("constant", [0.0, 0.1, 1 / 3, -1e8])
def test_a_constant_term_gives_zero(kind: RewardNormalization, constant: float) -> None:
    terms = values().float()
    terms[2] = constant
    without, _ = summed(terms[:2], kind, weights=WEIGHTS[:2])
    found, moments = summed(terms, kind)
    assert torch.equal(found, without) and found.isfinite().all()
    # Nor does it in later batches, whatever their number of samples.
    again, _ = summed(terms[:, :7], kind, moments, groups=GROUPS[:7])
    _, of_two = summed(terms[:2], kind, weights=WEIGHTS[:2])
    expected, _ = summed(terms[:2, :7], kind, of_two, groups=GROUPS[:7], weights=WEIGHTS[:2])
    assert torch.equal(again, expected)


@normalizing
def test_the_rounding_of_a_constant_is_no_spread(kind: RewardNormalization) -> None:
    """100 / 3 computed in two ways: one unit in the last place apart."""
    ulp = torch.finfo(torch.float32).eps * 32
    noise = torch.tensor([[100 / 3 + ulp * (place % 2) for place in range(len(GROUPS))]])
    assert len(noise.unique()) == 2
    assert not summed(noise, kind, weights=torch.ones(1))[0].any()


@kinds
def test_a_sample_without_one_value_is_in_no_mean(kind: RewardNormalization) -> None:
    terms, kept = values(), torch.tensor([0, 1, 3, 4, 5, 7, 8, 9])
    terms[0, 2], terms[1, 6] = math.nan, math.inf
    found, moments = summed(terms, kind)
    expected, of_kept = summed(terms[:, kept], kind, groups=GROUPS[kept])
    assert torch.equal(found[kept], expected) and moments == of_kept
    assert found[[2, 6]].isnan().all()


@kinds
def test_a_batch_without_any_score_leaves_everything_as_it_was(kind: RewardNormalization) -> None:
    before = summed(values(), kind)[1]
    found, after = summed(torch.full((3, 4), math.nan), kind, before, groups=torch.zeros(4).int())
    assert found.isnan().all() and after == before
    first, moments = summed(torch.full((3, 2), math.nan), kind, groups=torch.zeros(2).int())
    assert first.isnan().all()
    assert torch.equal(summed(values(), kind, moments)[0], summed(values(), kind)[0])


@given(sizes=st.lists(st.integers(0, 5), min_size=1, max_size=8), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_running_moments_are_those_of_all_samples_however_they_came(
    sizes: list[int], seed: int
) -> None:
    terms = torch.tensor(np.random.default_rng(seed).normal(3, 20, (3, sum(sizes) + 10)))
    moments: Moments = {}
    for part in terms[:, : sum(sizes)].split(sizes, dim=1):
        _, moments = summed(part, "running", moments, groups=torch.zeros(part.shape[1]).int())
        # A checkpoint of the domains llm and audio is JSON.
        moments = json.loads(json.dumps(moments))
    found, moments = summed(terms[:, sum(sizes) :], "running", moments)
    assert moments["count"] == terms.shape[1]
    earlier = terms[:, : sum(sizes)].numpy()
    near(found, by_hand(terms[:, sum(sizes) :], "running", before=earlier))


def test_groups_and_the_scale_of_all_samples_make_gdpo() -> None:
    """TRL's normalize_then_sum, written out: sample deviations and an epsilon of 1e-4 in both."""
    each = 5
    groups, terms = torch.arange(2).repeat_interleave(each), values(3)
    summands = []
    for weight, term in zip(WEIGHTS, terms, strict=True):
        apart = [(g - g.mean()) / (g.std() + 1e-4) for g in term.split(each)]
        summands.append(weight * torch.cat(apart))
    whole = torch.stack(summands).sum(0)
    expected = (whole - whole.mean()) / (whole.std(correction=0) + 1e-4)
    rewards, _ = summed(terms, "group", groups=groups)
    found = group_advantages(rewards, groups, scale="global")
    # 1e-4 beside 0.02, the deviation of the first term.
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=2e-3)
    # It is another one than of the sum that is normalised as a whole.
    plain, _ = summed(terms, "none", groups=groups)
    assert (group_advantages(plain, groups, scale="global") - found).abs().max() > 0.3


def test_a_configuration_offers_what_the_function_takes() -> None:
    assert get_args(Normalization) == KINDS


def test_what_is_impossible_is_named() -> None:
    # Checked before the function is called, while testing.
    with pytest.raises(TypeCheckError, match="'none', 'group', 'running'"):
        summed(values(), "batch")  # type: ignore[arg-type]
    _, moments = summed(values(), "running")
    with pytest.raises(ValueError, match="moments of 1 terms, received those of 3"):
        summed(values()[:1], "running", moments, weights=WEIGHTS[:1])

"""Rewards: the sum of terms, exclusions, and loading by name."""

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adrpo.errors import AdrpoError, UnreadableError
from adrpo.rewards import Logistic, RewardTerm, build_reward, score


def images(count: int, seed: int = 0) -> list[Image.Image]:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 24, 24, 3), dtype=np.uint8)
    return [Image.fromarray(array) for array in pixels]


def by_length(prompts: list[str], images: list[Image.Image], **columns: Any) -> list[float]:
    return [float(len(prompt)) for prompt in prompts]


def one_line(error: pytest.ExceptionInfo[AdrpoError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# The sum of terms


def test_the_total_is_the_weighted_sum() -> None:
    def brightness(prompts: list[str], images: list[Image.Image], **columns: Any) -> list[float]:
        return [float(np.asarray(image).mean()) for image in images]

    terms = [RewardTerm("length", 2.0, by_length), RewardTerm("brightness", -0.5, brightness)]
    pictures = images(3)
    result = score(terms, prompts=["a", "bb", "cccc"], images=pictures)
    assert result.by_term["length"].tolist() == [1, 2, 4]
    means = [float(np.asarray(image).mean()) for image in pictures]
    expected = torch.tensor([2 * n - 0.5 * mean for n, mean in zip([1, 2, 4], means, strict=True)])
    # float32 rounding of values of size 60.
    torch.testing.assert_close(result.total, expected, rtol=1e-6, atol=0)
    assert result.first_error is None


def test_columns_reach_the_reward_sample_by_sample() -> None:
    def answers(
        prompts: list[str], images: list[Image.Image], target: list[int], **columns: Any
    ) -> list[float]:
        if len(prompts) > 1:
            raise RuntimeError("one at a time")
        return [10.0 * target[0] + columns["offset"][0]]

    terms = [RewardTerm("answers", 1.0, answers)]
    result = score(terms, prompts=["p", "q"], images=images(2), target=[1, 2], offset=[0.5, 0.25])
    assert result.total.tolist() == [10.5, 20.25]
    with pytest.raises(ValueError, match="expected 2 offset"):
        score(terms, prompts=["p", "q"], images=images(2), target=[1, 2], offset=[0.5])


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, -math.inf, 1e300])
def test_a_sample_without_a_finite_score_is_excluded(missing: float | None) -> None:
    def partial(prompts: list[str], images: list[Image.Image]) -> list[float | None]:
        return [1.0, missing, 3.0]

    terms = [RewardTerm("length", 1.0, by_length), RewardTerm("partial", 1.0, partial)]
    result = score(terms, prompts=["a", "a", "a"], images=images(3))
    assert result.total.isnan().tolist() == [False, True, False]
    assert result.by_term["partial"].isnan().tolist() == [False, True, False]
    assert result.by_term["length"].tolist() == [1, 1, 1]
    assert result.total[[0, 2]].tolist() == [2, 4]


def test_only_samples_that_raise_alone_are_excluded() -> None:
    def fragile(prompts: list[str], images: list[Image.Image]) -> list[float]:
        if "bad" in prompts:
            raise RuntimeError(f"cannot score\n{len(prompts)} prompts")
        return [float(len(prompt)) for prompt in prompts]

    result = score(
        [RewardTerm("fragile", 2.0, fragile)], prompts=["a", "bad", "ccc"], images=images(3)
    )
    assert result.total.isnan().tolist() == [False, True, False]
    assert result.total[[0, 2]].tolist() == [2, 6]
    assert str(result.first_error).startswith("fragile: RuntimeError: cannot score 3 prompts (")


def test_a_reward_that_always_raises_leaves_no_score_but_its_reason() -> None:
    def broken(prompts: list[str], images: list[Image.Image]) -> list[float]:
        raise KeyError("no such server")

    result = score([RewardTerm("broken", 1.0, broken)], prompts=["a", "b"], images=images(2))
    assert result.total.isnan().all()
    assert result.first_error is not None
    assert "no such server" in result.first_error


@pytest.mark.parametrize(
    ("returned", "received"),
    [
        ([1.0, 2.0], "received 2"),
        ([], "received 0"),
        (1.0, "received float"),
        (None, "received NoneType"),
        (["good", 1.0, 2.0], "received 'good'"),
        ([[1.0, 2.0], 1.0, 2.0], r"received \[1.0, 2.0\]"),
    ],
)
def test_wrong_returns_are_named(returned: Any, received: str) -> None:
    terms = [RewardTerm("odd", 1.0, lambda **samples: returned)]
    with pytest.raises(AdrpoError, match=received) as caught:
        score(terms, prompts=["a", "b", "c"], images=images(3))
    assert "'odd'" in one_line(caught)


def test_arrays_and_tensors_are_lists_too() -> None:
    for returned in (np.array([1.5, 2.5]), torch.tensor([1.5, 2.5]), (1.5, 2.5)):
        term = RewardTerm("array", 1.0, lambda returned=returned, **samples: returned)
        assert score([term], prompts=["a", "b"], images=images(2)).total.tolist() == [1.5, 2.5]


# Loading by name


@dataclass(frozen=True)
class Term:
    name: str
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    logistic: Logistic | None = None
    timeout: float | None = None


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    source = """
class Longer:
    def __init__(self, than, device="unset"):
        self.than, self.device = than, device

    def __call__(self, prompts, images, **columns):
        return [float(len(prompt) > self.than) for prompt in prompts]


def scaled(prompts, images, factor=1.0, **columns):
    return [factor * len(prompt) for prompt in prompts]


def strict(prompts, images):
    return [0.0 for _ in prompts]


NUMBER = 3
"""
    (tmp_path / "reward_plugin.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "reward_plugin", raising=False)
    return "reward_plugin"


@pytest.mark.parametrize("separator", [":", "."])
def test_dotted_paths_lead_to_functions_and_classes(plugin: str, separator: str) -> None:
    terms = build_reward(
        [
            Term(f"{plugin}{separator}scaled", 0.5, {"factor": 3.0}),
            Term(f"{plugin}{separator}Longer", 2.0, {"than": 2}),
            Term(f"{plugin}{separator}scaled"),
        ],
        "meta",
    )
    assert [term.name for term in terms] == ["scaled", "Longer", "scaled_2"]
    assert [term.weight for term in terms] == [0.5, 2.0, 1.0]
    longer: Any = terms[1].function
    assert longer.device == "meta"
    result = score(terms, prompts=["a", "bbb"], images=images(2))
    # 0.5 * 3 * length + 2 * (length > 2) + length
    assert result.total.tolist() == [2.5, 9.5]


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("clip_scor", {}, "did you mean 'clip_score'"),
        ("sharpness", {}, "known names: clip_score"),
        ("no_such_package.module:reward", {}, "PYTHONPATH"),
        ("reward_plugin:scaledd", {}, "did you mean 'scaled'"),
        ("reward_plugin:NUMBER", {}, "received int"),
        ("reward_plugin:Longer", {}, "missing a required argument: 'than'"),
        ("reward_plugin:Longer", {"than": 1, "tan": 2}, "unexpected keyword argument 'tan'"),
        ("reward_plugin:strict", {"factor": 2}, "unexpected keyword argument 'factor'"),
    ],
)
def test_wrong_names_and_options_are_explained(
    plugin: str, name: str, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(AdrpoError) as caught:
        build_reward([Term(name, 1.0, options)], "cpu")
    text = one_line(caught)
    assert expected in text
    assert repr(name) in text


def test_a_misspelt_module_leaves_no_traceback_and_names_the_one_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_own_rewards.py").write_text("def warmth(**_): ...")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AdrpoError, match="no module of this name; did you mean 'my_own_rewards'"):
        build_reward([Term("my_own_reward:warmth")], "cpu")
    with pytest.raises(AdrpoError, match="put it beside the recipe") as caught:
        build_reward([Term("zzzz.qqqq:warmth")], "cpu")
    assert not isinstance(caught.value, UnreadableError)


def test_a_module_that_lacks_a_dependency_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needy_reward.py").write_text("import no_such_dependency\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(AdrpoError, match="no_such_dependency"):
        build_reward([Term("needy_reward:anything")], "cpu")


def test_no_terms_are_refused() -> None:
    with pytest.raises(AdrpoError, match="at least one reward term"):
        build_reward([], "cpu")


# The logistic function


def test_a_logistic_term_is_a_probability_and_is_logged_as_it_was() -> None:
    term = RewardTerm("length", 3.0, by_length, Logistic(location=2.0, scale=0.5))
    result = score([term], prompts=["a", "bb", "cccc"], images=images(3))
    assert result.by_term["length"].tolist() == [1, 2, 4]
    expected = [3 / (1 + math.exp(-(n - 2) / 0.5)) for n in (1, 2, 4)]
    # float32 rounding of values below 3.
    torch.testing.assert_close(result.total, torch.tensor(expected), rtol=1e-6, atol=0)


def test_a_logistic_term_leaves_an_unscored_sample_unscored() -> None:
    term = RewardTerm("none", 1.0, lambda **_: [None, 1.0], Logistic(0.0, 1.0))
    total = score([term], prompts=["a", "b"], images=images(2)).total
    assert total[0].isnan() and total[1].isfinite()


def test_a_configured_logistic_reaches_the_sum() -> None:
    settings = Term(f"{__name__}:by_length", logistic=Logistic(location=2.0, scale=1.0))
    (term,) = build_reward([settings], "cpu")
    assert score([term], prompts=["aa"], images=images(1)).total.tolist() == [0.5]

"""The reward of a language run as TRL calls it: one sum, None without a score, TRL's extras."""

import math
from typing import Any

import pytest

from adrpo.errors import AdrpoError
from adrpo.rewards import Logistic, RewardTerm
from adrpo.rewards.base import Scores
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS

COMPLETIONS = ["a", "bb", "ccc"]


def ask(*terms: RewardTerm, **columns: Any) -> tuple[list[float | None], Any]:
    from adrpo.llm.training_reward import TrainingReward

    reward = TrainingReward(terms)
    values = reward(prompts=["p"] * 3, completions=COMPLETIONS, **columns)
    return values, reward.result()


def length(completions: list[str], **columns: Any) -> Scores:
    return [float(len(completion)) for completion in completions]


def test_it_is_the_weighted_sum() -> None:
    half = RewardTerm("half", 0.5, length)
    squashed = RewardTerm("squashed", 2.0, length, Logistic(location=1.0, scale=0.5))
    values, result = ask(half, squashed)
    expected = [0.5 * n + 2 / (1 + math.exp(-(n - 1) / 0.5)) for n in (1, 2, 3)]
    # float32 rounding of values below 4.
    assert values == pytest.approx(expected, rel=1e-6)
    assert result.by_term["squashed"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, -math.inf])
def test_a_sample_that_one_term_can_not_score_has_no_score(missing: float | None) -> None:
    """TRL's own sum would keep it with the other term alone."""
    partial = RewardTerm("partial", 1.0, lambda **_: [1.0, missing, 3.0])
    values, result = ask(RewardTerm("length", 1.0, length), partial)
    # TRL knows None as "no score".
    assert values == [2.0, None, 6.0]
    assert result.errors == {}


def test_a_completion_whose_reward_raises_has_no_score() -> None:
    def fragile(completions: list[str], **columns: Any) -> Scores:
        if "bb" in completions:
            raise RuntimeError("can't read bb")
        return length(completions)

    values, result = ask(RewardTerm("fragile", 1.0, fragile))
    assert values == [1.0, None, 3.0]
    assert str(result.first_error).startswith("fragile: RuntimeError: can't read bb (")


def test_a_term_hears_what_it_asks_for() -> None:
    heard: dict[str, Any] = {}

    def told(completions: list[str], trainer_state: Any, answer: list[str], **more: Any) -> Scores:
        heard.update(more, trainer_state=trainer_state, answer=answer)
        return length(completions)

    def narrow(prompts: list[str], completions: list[str], answer: list[str]) -> Scores:
        return length(completions)

    state, log = object(), print
    values, _ = ask(
        RewardTerm("told", 1.0, told),
        RewardTerm("narrow", 1.0, narrow),
        answer=["x", "y", "z"],
        trainer_state=state,
        log_metric=log,
    )
    assert values == [2, 4, 6]
    assert heard["trainer_state"] is state and heard["log_metric"] is log
    assert heard["answer"] == ["x", "y", "z"]


def test_a_term_that_takes_no_further_columns_is_told() -> None:
    def narrow(completions: list[str]) -> Scores:
        return length(completions)

    with pytest.raises(AdrpoError, match=r"reward 'narrow': .*prompts, completions, answer"):
        ask(RewardTerm("narrow", 1.0, narrow), answer=["x", "y", "z"])

"""The calling of rewards: what they take, awaitables, errors by term, what training says of it."""

import asyncio
import functools
import math
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adrpo.errors import AdrpoError
from adrpo.rewards import RewardResult, RewardTerm, score
from adrpo.rewards.awaiting import awaited
from adrpo.rewards.base import Scores
from adrpo.rewards.scoring import (
    broken,
    joined,
    require_scores,
    score_columns,
    score_together,
    takes,
)
from adrpo.runs.processes import ALONE

LENGTHS = [1.0, 2.0, 3.0]
SAMPLES: dict[str, list[Any]] = {
    "prompts": ["p", "q", "r"], "completions": ["a", "bb", "ccc"], "category": ["x", "y", "z"],
}  # fmt: skip


def length(completions: list[str], **columns: Any) -> Scores:
    return [float(len(completion)) for completion in completions]


def term(function: Callable[..., Any], name: str = "odd", weight: float = 1.0) -> RewardTerm:
    return RewardTerm(name, weight, function)


def one_line(error: pytest.ExceptionInfo[AdrpoError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# What a reward takes


def test_a_column_may_have_any_name() -> None:
    def named(terms: list[int], prompts: list[str], **columns: Any) -> Scores:
        return [float(number) for number in terms]

    assert score([term(named)], prompts=["p", "q"], terms=[4, 5]).total.tolist() == [4, 5]


def narrow(prompts: list[str], completions: list[str]) -> Scores:
    return LENGTHS


def needy(prompts: list[str], answer: list[str], **columns: Any) -> Scores:
    return LENGTHS


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (narrow, "(got an unexpected keyword argument 'category'); end its parameters with **col"),
        (needy, "(missing a required argument: 'answer'); give 'answer' a default, or the data a"),
        (functools.partial(narrow), "'category'"),
        (len, "end its parameters with **columns"),
    ],
)
def test_a_reward_that_does_not_take_the_columns_is_told(function: Any, expected: str) -> None:
    with pytest.raises(AdrpoError) as caught:
        score([term(function)], **SAMPLES)
    text = one_line(caught)
    assert "reward 'odd': expected a function that takes the keywords prompts, completions" in text
    assert expected in text


class Callable_:
    def __call__(self, completions: list[str], **columns: Any) -> Scores:
        return length(completions)


class Method:
    def of(self, completions: list[str], **columns: Any) -> Scores:
        return length(completions)


class Undocumented:
    """As a built-in, which has no signature that Python can read."""

    __signature__ = "unreadable"

    def __call__(self, **columns: Any) -> Scores:
        return length(columns["completions"])


def scaled(completions: list[str], factor: float, **columns: Any) -> Scores:
    return [factor * len(completion) for completion in completions]


@pytest.mark.parametrize(
    "function",
    [
        length,
        Callable_(),
        Method().of,
        Undocumented(),
        functools.partial(scaled, factor=1.0),
        functools.partial(Callable_()),
        lambda **samples: length(samples["completions"]),
        functools.wraps(length)(lambda **samples: length(**samples)),
    ],
)
def test_whatever_is_callable_is_a_reward(function: Any) -> None:
    assert score([term(function)], **SAMPLES).total.tolist() == LENGTHS


def texts(result: RewardResult) -> dict[str, str]:
    """The errors without their place in the code."""
    assert all(error.endswith(")") for error in result.errors.values())
    return {name: error.rpartition(" (")[0] for name, error in result.errors.items()}


def test_a_type_error_inside_a_reward_is_a_failure_of_its_sample() -> None:
    def careless(completions: list[Any], **columns: Any) -> Scores:
        return [float(len(completion)) for completion in completions]

    result = score([term(careless)], **SAMPLES | {"completions": ["a", None, "ccc"]})
    assert result.total.isnan().tolist() == [False, True, False]
    assert texts(result) == {"odd": "odd: TypeError: object of type 'NoneType' has no len()"}


def test_what_a_function_can_be_told() -> None:
    assert takes(term(length), "trainer_state")
    assert takes(term(narrow), "prompts") and not takes(term(narrow), "trainer_state")
    assert not takes(term(Undocumented()), "trainer_state")


# Values


def test_a_generator_that_raises_costs_its_samples() -> None:
    def lazily(completions: list[str], **columns: Any) -> Any:
        return (1 / (len(completion) - 2) for completion in completions)

    result = score([term(lazily)], **SAMPLES)
    assert result.total.isnan().tolist() == [False, True, False]
    assert texts(result) == {"odd": "odd: ZeroDivisionError: division by zero"}


def test_every_term_that_raises_has_its_error() -> None:
    def broken(**samples: Any) -> Scores:
        raise RuntimeError("away")

    def picky(completions: list[str], **samples: Any) -> Scores:
        if "bb" in completions:
            raise ValueError("no bb")
        return length(completions)

    terms = [term(length, "fine"), term(picky, "picky"), term(broken, "broken")]
    result = score(terms, **SAMPLES)
    assert texts(result) == {
        "picky": "picky: ValueError: no bb", "broken": "broken: RuntimeError: away",
    }  # fmt: skip
    assert result.first_error == result.errors["picky"]
    file, line = result.errors["broken"].partition(" (")[2].rstrip(")").split(", line ")
    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    assert (file, source[int(line) - 1].strip()) == (
        Path(__file__).name, 'raise RuntimeError("away")',
    )  # fmt: skip
    assert result.total.isnan().all()
    assert result.by_term["fine"].tolist() == LENGTHS


# Awaitables


def answering(log: list[str], name: str, seconds: float) -> Callable[..., Awaitable[Scores]]:
    async def reward(completions: list[str], **columns: Any) -> Scores:
        log.append(f"{name} begins")
        await asyncio.sleep(seconds)
        log.append(f"{name} ends")
        return length(completions)

    return reward


def test_the_async_terms_of_one_call_run_at_the_same_time() -> None:
    log: list[str] = []

    def at_once(completions: list[str], **columns: Any) -> Scores:
        log.append("at once")
        return length(completions)

    terms = [
        term(answering(log, "slow", 0.2), "slow", weight=1.0),
        term(at_once, "at_once", weight=10.0),
        term(answering(log, "quick", 0.01), "quick", weight=100.0),
    ]
    result = score(terms, **SAMPLES)
    # One after the other the slow one would end before the quick one begins.
    assert log == ["at once", "slow begins", "quick begins", "quick ends", "slow ends"]
    assert result.total.tolist() == [111, 222, 333]
    assert list(result.by_term) == ["slow", "at_once", "quick"]


def test_it_is_awaited_inside_a_loop_that_runs() -> None:
    """As in a notebook, whose cells run in the thread of an event loop."""

    async def cell() -> list[float]:
        return score([term(answering([], "a", 0))], **SAMPLES).total.tolist()

    assert asyncio.run(cell()) == LENGTHS


def test_the_loop_is_the_same_at_every_call() -> None:
    """So that a client which a reward keeps goes on working."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def reward(completions: list[str], **columns: Any) -> Scores:
        loops.append(asyncio.get_running_loop())
        return length(completions)

    for _ in range(2):
        score([term(reward)], **SAMPLES)
    assert loops[0] is loops[1] and loops[0].is_running()


class AsyncJudge:
    async def __call__(self, completions: list[str], **columns: Any) -> Scores:
        return length(completions)


class Later:
    """An awaitable that is no coroutine."""

    def __init__(self, values: Scores) -> None:
        self.values = values

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return self.values


@pytest.mark.parametrize(
    "function",
    [
        AsyncJudge(),
        functools.partial(AsyncJudge()),
        lambda **samples: Later(length(samples["completions"])),
        lambda **samples: AsyncJudge()(**samples),
    ],
)
def test_whatever_is_awaitable_is_awaited(function: Any) -> None:
    assert score([term(function)], **SAMPLES).total.tolist() == LENGTHS


def test_an_async_reward_that_raises_costs_its_samples() -> None:
    async def picky(completions: list[str], **columns: Any) -> Scores:
        await asyncio.sleep(0)
        if "bb" in completions:
            raise RuntimeError("no bb")
        return length(completions)

    result = score([term(picky)], **SAMPLES)
    assert result.total.isnan().tolist() == [False, True, False]
    assert texts(result) == {"odd": "odd: RuntimeError: no bb"}


def test_wrong_returns_of_an_async_reward_are_named() -> None:
    async def short(**samples: Any) -> Scores:
        return [1.0]

    with pytest.raises(AdrpoError, match="expected 3 values, one per sample, received 1"):
        score([term(short)], **SAMPLES)


def test_what_an_async_reward_refuses_ends_the_call() -> None:
    async def refusing(**samples: Any) -> Scores:
        raise AdrpoError("no answer from the judge")

    with pytest.raises(AdrpoError, match=r"^no answer from the judge$"):
        score([term(refusing)], **SAMPLES)

    # And one that is not awaited, because another term ends the call, leaves no warning.
    def refusing_at_once(**samples: Any) -> Scores:
        raise AdrpoError("no answer")

    with pytest.raises(AdrpoError, match=r"^no answer$"):
        score([term(AsyncJudge()), term(refusing_at_once)], **SAMPLES)


def test_an_exit_inside_an_async_reward_is_an_error_of_its_samples() -> None:
    async def leaving(**samples: Any) -> Scores:
        raise SystemExit(3)

    result = score([term(leaving)], **SAMPLES)
    assert result.total.isnan().all() and "it left by sys.exit(3)" in str(result.first_error)
    # The thread of the loop is still there.
    assert score([term(AsyncJudge())], **SAMPLES).total.tolist() == LENGTHS
    assert any(thread.name == "adrpo-rewards" for thread in threading.enumerate())


def test_a_value_alone_is_awaited() -> None:
    async def value() -> int:
        return 3

    async def error() -> int:
        raise KeyError("away")

    assert awaited(value()) == awaited(3) == 3
    with pytest.raises(KeyError, match="away"):
        awaited(error())


# What a training says of its scores


def result(*totals: float, **errors: str) -> RewardResult:
    values = torch.tensor(totals)
    return RewardResult(total=values, by_term={"judge": values}, errors=errors)


NAN = math.nan


def test_columns_tell_which_samples_have_scores() -> None:
    assert score_columns(result(1.0, NAN, 3.0)) == {
        "reward_judge_mean": 2.0, "samples": 3, "samples_excluded": 1,
    }  # fmt: skip
    columns = score_columns(result(NAN, NAN, judge="judge: RuntimeError: away"))
    assert math.isnan(columns.pop("reward_judge_mean"))
    assert columns == {
        "samples": 2, "samples_excluded": 2, "reward_error": "judge: RuntimeError: away",
    }  # fmt: skip


def test_only_a_step_without_any_score_whose_reward_raised_is_refused() -> None:
    assert broken(result(NAN, NAN)) is None
    assert broken(result(NAN, 1.0, judge="judge: RuntimeError: away")) is None
    failure = broken(result(NAN, NAN, judge="judge: RuntimeError: away"))
    assert failure == "the reward scored none of 2 samples (judge: RuntimeError: away)"


def test_a_reward_that_scores_nothing_is_found_at_the_base() -> None:
    terms = [term(length, "fact"), term(length, "form")]
    values: dict[str, Any] = {
        "fact": np.array([[NAN, 0.0], [NAN, NAN]]),
        "form": np.array([[1.0, NAN], [1.0, 1.0]]),
        "only_measured": np.full((2, 2), NAN),
    }
    with pytest.raises(AdrpoError) as caught:
        require_scores(values, terms, {"fact": "fact: KeyError: 'answer'", "other": "other: x"})
    text = one_line(caught)
    assert "at least one of the 4 samples" in text
    assert (
        "received 1 of fact, 3 of form, and no sample with all (fact: KeyError: 'answer')" in text
    )
    values["form"][0, 1] = 0.5
    require_scores(values, terms, {"fact": "fact: KeyError: 'answer'"})
    require_scores(values, [], {})


def test_parts_of_a_batch_are_joined_in_order() -> None:
    parts = [result(3.0, 1.0), result(2.0, judge="judge: RuntimeError: away")]
    whole = joined(parts, torch.tensor([1, 2, 0]))
    assert whole.total.tolist() == whole.by_term["judge"].tolist() == [1, 2, 3]
    assert whole.errors == {"judge": "judge: RuntimeError: away"}
    assert joined(parts).total.tolist() == [3, 1, 2]


def test_an_async_reward_scores_a_batch_of_several_processes() -> None:
    from PIL import Image

    from adrpo.data import Prompt

    async def width(images: list[Image.Image], **columns: Any) -> Scores:
        return [float(image.width) for image in images]

    images = [Image.new("RGB", (n, 1)) for n in (3, 1, 2)]
    prompts = [Prompt("a", ""), Prompt("b", ""), Prompt("a", "")]
    found = score_together(ALONE, [term(width)], images, prompts)
    assert found.total.tolist() == [3, 1, 2]

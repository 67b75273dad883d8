"""Rewards that leave, hang, wander or break what they are given: the run stays what it was."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from adrpo.config import RewardTermSection
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.flow.domain import build_trainer
from adrpo.rewards.base import RewardTerm
from adrpo.rewards.guarding import late
from adrpo.rewards.loading import build_reward
from adrpo.rewards.scoring import score
from support.tiny_runs import tiny_config


def pictures(count: int = 3) -> list[Image.Image]:
    return [Image.new("RGB", (4, 4), (i, i, i)) for i in range(count)]


def scored(function: Callable[..., Any], timeout: float | None = None, **samples: Any) -> Any:
    term = RewardTerm("mine", 1.0, function, timeout=timeout)
    given = {"prompts": ["a", "b", "c"], "images": pictures()} | samples
    return score([term], **given), given


def test_a_reward_that_leaves_is_one_that_raises() -> None:
    def leaves(prompts: list[str], images: list[Any], **_: Any) -> list[float]:
        if "b" in prompts:
            sys.exit("no licence")
        return [1.0] * len(prompts)

    async def leaves_later(prompts: list[str], images: list[Any], **_: Any) -> list[float]:
        await asyncio.sleep(0)
        return leaves(prompts, images)

    for function in (leaves, leaves_later):
        result, _ = scored(function)
        # Asked one by one, only the sample that makes it leave has no score.
        assert result.total.isfinite().tolist() == [True, False, True]
        assert "it left by sys.exit('no licence')" in str(result.first_error)


def test_what_a_reward_breaks_is_its_own() -> None:
    columns = [{"answer": [1]}, {"answer": [2]}, {"answer": [3]}]

    def breaks(prompts: list[str], images: list[Image.Image], facts: list[Any]) -> list[float]:
        values = [float(len(fact["answer"])) for fact in facts]
        for image in images:
            image.putpixel((0, 0), (255, 0, 0))
            image.close()
        facts[0]["answer"].append(9)
        prompts.clear(), images.clear(), facts.clear()
        return values

    result, given = scored(breaks, facts=columns)
    assert result.total.tolist() == [1, 1, 1]
    assert given["prompts"] == ["a", "b", "c"] and columns[0] == {"answer": [1]}
    assert [image.getpixel((0, 0)) for image in given["images"]] == [(i, i, i) for i in range(3)]


def test_two_rewards_do_not_see_each_others_damage() -> None:
    def empties(prompts: list[str], images: list[Any], **_: Any) -> list[float]:
        count = len(prompts)
        prompts.clear()
        return [0.0] * count

    def counts(prompts: list[str], images: list[Any], **_: Any) -> list[float]:
        return [float(len(prompts))] * len(images)

    terms = [RewardTerm("empties", 1.0, empties), RewardTerm("counts", 1.0, counts)]
    result = score(terms, prompts=["a", "b"], images=pictures(2))
    assert result.total.tolist() == [2, 2]


def test_a_reward_that_wanders_comes_back_and_is_told_of(tmp_path: Path) -> None:
    here = os.getcwd()

    def wanders(prompts: list[str], images: list[Any], **_: Any) -> list[float]:
        os.chdir(tmp_path)
        return [1.0] * len(prompts)

    term = RewardTerm("wanders", 1.0, wanders)
    with pytest.warns(AdrpoWarning, match="the reward 'wanders' changed the working folder"):
        score([term], prompts=["a"], images=pictures(1))
    assert os.getcwd() == here
    # Told once.
    score([term], prompts=["a"], images=pictures(1))
    assert os.getcwd() == here


def test_a_reward_whose_folder_is_gone_comes_back_too(tmp_path: Path) -> None:
    here, gone = os.getcwd(), tmp_path / "gone"
    gone.mkdir()

    def removes(prompts: list[str], images: list[Any], **_: Any) -> list[float]:
        os.chdir(gone)
        gone.rmdir()
        return [1.0] * len(prompts)

    with pytest.warns(AdrpoWarning, match="changed the working folder"):
        score([RewardTerm("removes", 1.0, removes)], prompts=["a"], images=pictures(1))
    assert os.getcwd() == here


def hangs(prompts: list[str], images: list[Any], **_: Any) -> list[float]:
    time.sleep(60)
    return [0.0] * len(prompts)


async def hangs_waiting(prompts: list[str], images: list[Any], **_: Any) -> list[float]:
    await asyncio.sleep(60)
    return [0.0] * len(prompts)


@pytest.mark.parametrize("function", [hangs, hangs_waiting])
def test_a_reward_that_hangs_ends_the_run_after_its_time(function: Callable[..., Any]) -> None:
    begun = time.monotonic()
    with pytest.raises(AdrpoError) as caught:
        scored(function, timeout=0.2)
    # Long before it would have answered.
    assert time.monotonic() - begun < 30
    assert str(caught.value) == str(late(RewardTerm("mine", 1.0, function, timeout=0.2)))


async def hangs_at_once(prompts: list[str], images: list[Any], **_: Any) -> list[float]:
    """As one that asks a server by a library which knows no await."""
    held.wait(60)
    return [0.0] * len(prompts)


held = threading.Event()


def test_an_async_reward_that_never_awaits_is_late_too_and_holds_up_no_later_one() -> None:
    async def later(prompts: list[str], images: list[Any], **_: Any) -> list[float]:
        await asyncio.sleep(0)
        return [2.0] * len(prompts)

    terms = [
        RewardTerm("later", 1.0, later),  # which may take its time
        RewardTerm("held", 1.0, hangs_at_once, timeout=0.2),
    ]
    begun = time.monotonic()
    with pytest.raises(AdrpoError, match=r"reward 'held': expected values within 0\.2 s"):
        score(terms, prompts=["a", "b"], images=pictures(2))
    result = score(terms[:1], prompts=["a", "b"], images=pictures(2))
    assert time.monotonic() - begun < 30
    assert result.total.tolist() == [2, 2]
    held.set()


def test_an_error_within_the_time_is_one_of_the_sample() -> None:
    def own(prompts: list[str], images: list[Any], **_: Any) -> list[float]:
        if "b" in prompts:
            raise TimeoutError("gone")
        return [1.0] * len(prompts)

    async def later(prompts: list[str], images: list[Any], **_: Any) -> list[float]:
        return own(prompts, images)

    for function in (own, later):
        result, _ = scored(function, timeout=30.0)
        assert result.total.isfinite().tolist() == [True, False, True]
        assert "TimeoutError: gone" in str(result.first_error)


def test_a_run_whose_reward_hangs_keeps_its_checkpoint_and_goes_on(tmp_path: Path) -> None:
    asked = []

    def sometimes(prompts: list[str], images: list[Any], **_: Any) -> list[float]:
        asked.append(len(prompts))
        if slow and len(asked) == 4:  # the trial, the base's evaluation, two steps
            time.sleep(60)
        return [float(image.getpixel((0, 0))[0]) for image in images]

    settings = tiny_config(checkpoint={"every": 1})
    slow = True
    trainer = build_trainer(settings, reward=sometimes)
    (term,) = trainer.reward
    object.__setattr__(term, "timeout", 5.0)
    with pytest.raises(AdrpoError, match="reward 'sometimes': expected values within 5 s"):
        trainer.train(tmp_path / "run", progress=False)
    slow = False
    again = build_trainer(settings, reward=sometimes)
    again.train(tmp_path / "run", resume=True, progress=False)
    rows = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == 4


def test_the_key_timeout_reaches_the_reward() -> None:
    section = RewardTermSection(name="jpeg_size", timeout=2.5)
    (term,) = build_reward([section], "cpu")
    assert term.timeout == 2.5
    (plain,) = build_reward([RewardTermSection(name="jpeg_size")], "cpu")
    assert plain.timeout is None

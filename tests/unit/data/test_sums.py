"""Sums in words: every sum once, right answers, and no pair on both sides of the split."""

import re
from itertools import product

import pytest

from adrpo.data.base import Prompt
from adrpo.data.prompts import load_both
from adrpo.data.sums import LARGEST, split_sums
from adrpo.errors import AdrpoError
from adrpo.rewards.numbers import NumericAnswer


def summands(prompt: Prompt) -> tuple[int, int]:
    assert not isinstance(prompt.content, str)
    assert [message["role"] for message in prompt.content] == ["system", "user"]
    found = re.fullmatch(r"What is (\d+) \+ (\d+)\?", prompt.text)
    assert found
    return int(found[1]), int(found[2])


def test_every_sum_is_on_one_side_with_both_orders() -> None:
    train, held_out = split_sums(0.2, seed=0)
    numbers = range(1, LARGEST + 1)
    asked = [[summands(prompt) for prompt in part] for part in (train, held_out)]
    assert sorted(asked[0] + asked[1]) == sorted(product(numbers, numbers))
    pairs = [{tuple(sorted(pair)) for pair in part} for part in asked]
    assert not pairs[0] & pairs[1]
    assert len(pairs[1]) == round(0.2 * LARGEST * (LARGEST + 1) / 2)


def test_answers_and_categories_are_those_of_the_prompt() -> None:
    train, held_out = split_sums(0.2, seed=0)
    for prompt in train + held_out:
        total = sum(summands(prompt))
        assert prompt.columns == {"answer": total}
        sizes = {"one digit": (2, 9), "ten to nineteen": (10, 19), "twenty and more": (20, 40)}
        low, high = sizes[prompt.category]
        assert low <= total <= high


def test_the_numeric_reward_tells_right_from_wrong() -> None:
    sums, _ = split_sums(0.2, seed=0)
    answers = [prompt.columns["answer"] for prompt in sums]
    said = [[{"role": "assistant", "content": f"That is {answer}."}] for answer in answers]
    prompts = [prompt.content for prompt in sums]
    assert NumericAnswer()(prompts, said, answer=answers) == [1.0] * len(sums)
    off_by_one = [answer + 1 for answer in answers]
    assert NumericAnswer()(prompts, said, answer=off_by_one) == [0.0] * len(sums)


def test_the_seed_decides_the_split_and_the_order() -> None:
    first, again, other = (split_sums(0.2, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert set(map(summands, first[1])) != set(map(summands, other[1]))
    # The first rows of a part, which is what a size takes, have more than the first summands.
    assert len({summands(prompt)[0] for prompt in first[1][:20]}) > 5


def test_they_are_had_by_their_name() -> None:
    train, held_out = split_sums(0.2, seed=3)
    sizes = {"train_size": None, "held_out_size": 7}
    assert load_both("sums", share=0.2, seed=3, **sizes) == (train, held_out[:7])
    with pytest.raises(AdrpoError, match="of 210 different prompts"):
        load_both("sums", share=1.0, seed=3, **sizes)

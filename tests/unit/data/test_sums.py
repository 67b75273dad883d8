"""Sums in words: every sum once, right answers, and no pair on both sides of the split."""

import re
from itertools import product
from typing import Any

import pytest

from adrpo.config import LanguagePromptsSection
from adrpo.data.sums import LARGEST, split_sums
from adrpo.errors import AdrpoError
from adrpo.llm.prompt_rows import load_prompt_rows
from adrpo.rewards.numbers import NumericAnswer


def summands(row: dict[str, Any]) -> tuple[int, int]:
    instruction, question = row["prompt"]
    assert (instruction["role"], question["role"]) == ("system", "user")
    found = re.fullmatch(r"What is (\d+) \+ (\d+)\?", question["content"])
    assert found
    return int(found[1]), int(found[2])


def test_every_sum_is_on_one_side_with_both_orders() -> None:
    train, held_out = split_sums(seed=0, held_out=0.2)
    numbers = range(1, LARGEST + 1)
    asked = [[summands(row) for row in part] for part in (train, held_out)]
    assert sorted(asked[0] + asked[1]) == sorted(product(numbers, numbers))
    pairs = [{tuple(sorted(pair)) for pair in part} for part in asked]
    assert not pairs[0] & pairs[1]
    assert len(pairs[1]) == round(0.2 * LARGEST * (LARGEST + 1) / 2)


def test_answers_and_categories_are_those_of_the_prompt() -> None:
    train, held_out = split_sums(seed=0, held_out=0.2)
    for row in train + held_out:
        total = sum(summands(row))
        assert row["answer"] == total
        sizes = {"one digit": (2, 9), "ten to nineteen": (10, 19), "twenty and more": (20, 40)}
        low, high = sizes[row["category"]]
        assert low <= total <= high


def test_the_numeric_reward_tells_right_from_wrong() -> None:
    rows, _ = split_sums(seed=0, held_out=0.2)
    said = [[{"role": "assistant", "content": f"That is {row['answer']}."}] for row in rows]
    answers = [row["answer"] for row in rows]
    prompts = [row["prompt"] for row in rows]
    assert NumericAnswer()(prompts, said, answer=answers) == [1.0] * len(rows)
    off_by_one = [answer + 1 for answer in answers]
    assert NumericAnswer()(prompts, said, answer=off_by_one) == [0.0] * len(rows)


def test_the_seed_decides_the_split_and_the_order() -> None:
    first, again, other = (split_sums(seed=seed, held_out=0.2) for seed in (0, 0, 1))
    assert first == again
    assert {summands(row) for row in first[1]} != {summands(row) for row in other[1]}
    # The first rows of a part, which is what a size takes, have more than the first summands.
    assert len({summands(row)[0] for row in first[1][:20]}) > 5


def test_a_run_takes_them_by_their_name() -> None:
    prompts = LanguagePromptsSection(
        source="sums", held_out_share=0.2, split_seed=3, train_size=None, held_out_size=7
    )
    train, held_out = split_sums(seed=3, held_out=0.2)
    assert load_prompt_rows(prompts) == (train, held_out[:7])
    with pytest.raises(AdrpoError, match="of 210 different prompts"):
        load_prompt_rows(prompts.model_copy(update={"held_out": 1.0}))

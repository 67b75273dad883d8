"""Sums in words: a task for chat models whose answers are computed, with nothing to download."""

import random

from adrpo.data.rows import Row, split_rows

LARGEST = 20
"""The largest summand; the least is 1."""

INSTRUCTION = "Answer with one number."


def split_sums(*, seed: int, held_out: float) -> tuple[list[Row], list[Row]]:
    """All sums of two summands, to train on and to evaluate on, each part shuffled by ``seed``.

    A row is {"prompt": messages, INSTRUCTION by the system and a question by the user, "answer":
    a + b, "category": its size, "one digit", "ten to nineteen" or "twenty and more"}. 7 + 5 and
    5 + 7 are on one side, so that no held-out question is seen in training in another order.

    Args:
        seed: which of the possible splits, and the order.
        held_out: the share of the different pairs that is held out, between 0 and 1.

    Raises:
        AdrpoError: a share that leaves a part without a sum.
    """
    numbers = range(1, LARGEST + 1)
    pairs = [{"prompt": f"{a} {b}", "pair": (a, b)} for a in numbers for b in numbers if a <= b]
    train, evaluation = (
        [_row(a, b) for row in part for a, b in sorted({row["pair"], row["pair"][::-1]})]
        for part in split_rows(pairs, seed=seed, held_out=held_out)
    )
    for part in (train, evaluation):
        random.Random(seed).shuffle(part)
    return train, evaluation


def _row(a: int, b: int) -> Row:
    size = "one digit" if a + b < 10 else "ten to nineteen" if a + b < 20 else "twenty and more"
    return {
        "prompt": [
            {"role": "system", "content": INSTRUCTION},
            {"role": "user", "content": f"What is {a} + {b}?"},
        ],
        "answer": a + b,
        "category": size,
    }

"""Sums in words: a task for chat models whose answers are computed, with nothing to download."""

import random

from adrpo.data.base import Prompt
from adrpo.data.splits import hold_out

LARGEST = 20
"""The largest summand; the least is 1."""

INSTRUCTION = "Answer with one number."


def split_sums(share: float, *, seed: int) -> tuple[list[Prompt], list[Prompt]]:
    """All sums of two summands, to train on and to evaluate on, each part shuffled by ``seed``.

    A prompt is a conversation, INSTRUCTION by the system and a question by the user, with the
    column "answer", a + b; its category is the size of that: "one digit", "ten to nineteen" or
    "twenty and more". 7 + 5 and 5 + 7 are on one side, so that no held-out question is seen in
    training in another order.

    Args:
        share: how much of the different pairs is held out, between 0 and 1.
        seed: which of the possible splits, and the order.

    Raises:
        AdrpoError: a share that leaves a part without a sum.
    """
    numbers = range(1, LARGEST + 1)
    pairs = [
        Prompt(f"{a} {b}", columns={"pair": (a, b)}) for a in numbers for b in numbers if a <= b
    ]
    train, held_out = (
        [
            _sum(a, b)
            for pair in part
            for a, b in sorted({pair.columns["pair"], pair.columns["pair"][::-1]})
        ]
        for part in hold_out(pairs, share, seed=seed)
    )
    for part in (train, held_out):
        random.Random(seed).shuffle(part)
    return train, held_out


def _sum(a: int, b: int) -> Prompt:
    size = "one digit" if a + b < 10 else "ten to nineteen" if a + b < 20 else "twenty and more"
    messages = [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": f"What is {a} + {b}?"},
    ]
    return Prompt(messages, size, {"answer": a + b})

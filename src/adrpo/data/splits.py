"""Halves a set of prompts into one to train on and one to keep for evaluation."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from adrpo.data.base import Prompt

SPLITS = ("train", "held_out")


def split(prompts: Sequence[Prompt], *, held_out: bool) -> list[Prompt]:
    """One half of ``prompts``, in their order; the other half has no prompt of it.

    Within each category the different prompts are ranked by the SHA-256 of their text: the first
    half trains (with the odd one out), the second is held out. Hence no seed, the same halves
    whatever the order of the file, each category of two or more on both sides, and at most one
    further prompt per category that changes sides when one is added or removed.

    Prompts that differ in case and spaces only are one prompt; one that stands in several
    categories is ranked in the alphabetically first of them.
    """
    category: dict[str, str] = {}
    for prompt in prompts:
        key = _key(prompt)
        category[key] = min(prompt.category, category.get(key, prompt.category))
    strata: defaultdict[str, list[str]] = defaultdict(list)
    for key, name in category.items():
        strata[name].append(key)
    chosen: set[str] = set()
    for keys in strata.values():
        ranked = sorted(keys, key=lambda key: hashlib.sha256(key.encode()).digest())
        half = (len(ranked) + 1) // 2
        chosen.update(ranked[half:] if held_out else ranked[:half])
    return [prompt for prompt in prompts if _key(prompt) in chosen]


def _key(prompt: Prompt) -> str:
    return " ".join(prompt.text.casefold().split())

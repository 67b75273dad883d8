"""Parts of a set of prompts: to train on, and to keep for evaluation."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar

from adrpo.data.base import Prompt, normalized, same_prompt
from adrpo.errors import AdrpoError

HALVES = ("train", "held_out")

Item = TypeVar("Item")


def half(prompts: Sequence[Prompt], *, held_out: bool) -> list[Prompt]:
    """One half of ``prompts``, in their order; the other half has no prompt of it.

    Within each category the different prompts are ranked by the SHA-256 of their text: the first
    half trains (with the odd one out), the second is held out. Hence no seed, the same halves
    whatever the order of the file, each category of two or more on both sides, and at most one
    further prompt per category that changes sides when one is added or removed.

    Prompts that differ in case and spaces only, or in their columns, stay together; one that
    stands in several categories is ranked in the alphabetically first of them.
    """
    category: dict[str, str] = {}
    for prompt in prompts:
        key = _half_key(prompt)
        category[key] = min(prompt.category, category.get(key, prompt.category))
    strata: defaultdict[str, list[str]] = defaultdict(list)
    for key, name in category.items():
        strata[name].append(key)
    chosen: set[str] = set()
    for keys in strata.values():
        ranked = sorted(keys, key=lambda key: hashlib.sha256(key.encode()).digest())
        middle = (len(ranked) + 1) // 2
        chosen.update(ranked[middle:] if held_out else ranked[:middle])
    return [prompt for prompt in prompts if _half_key(prompt) in chosen]


def _half_key(prompt: Prompt) -> str:
    """A text is ranked by its words alone, a conversation by its roles, too."""
    content = prompt.content
    return normalized(content) if isinstance(content, str) else same_prompt(content)


def hold_out(
    prompts: Sequence[Prompt], share: float, *, seed: int
) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts to train on and prompts to evaluate on, each in their order, none on both sides.

    The different prompts are ranked by the SHA-256 of the seed and the prompt; the first
    round(share * prompts) of them are held out. Hence the same parts whatever the order of the
    source. Prompts that differ in case and spaces only, or in their columns, stay together.

    Args:
        prompts: all of a source.
        share: how much of the different prompts is held out, between 0 and 1.
        seed: which of the possible splits.

    Raises:
        AdrpoError: a share out of range, or one that leaves a part without a prompt.
    """
    return hold_out_by(
        prompts, [same_prompt(prompt.content) for prompt in prompts], share, seed=seed
    )


def hold_out_by(
    items: Sequence[Item], keys: Sequence[str], share: float, *, seed: int, of: str = "prompts"
) -> tuple[list[Item], list[Item]]:
    """``items`` in two parts as :func:`hold_out` makes them, those of one key on one side.

    Args:
        items: all of a source.
        keys: one for each item; what is ranked, counted and held out is keys.
        share, seed: as of :func:`hold_out`.
        of: what the keys stand for, for the message.

    Raises:
        AdrpoError: a share out of range, or one that leaves a part without a key.
    """
    ranked = sorted(set(keys), key=lambda key: hashlib.sha256(f"{seed}\n{key}".encode()).digest())
    count = round(share * len(ranked))
    if not 0 < count < len(ranked):
        raise AdrpoError(
            f"expected a share to hold out that leaves both parts a prompt, received {share!r} "
            f"of {len(ranked)} different {of}; change the share, or name a larger source"
        )
    chosen = set(ranked[:count])
    sides: tuple[list[Item], list[Item]] = ([], [])
    for item, key in zip(items, keys, strict=True):
        sides[key in chosen].append(item)
    return sides


def evaluated(
    train: Sequence[Prompt], held_out: Sequence[Prompt], *, seen: int
) -> dict[str, Sequence[Prompt]]:
    """The prompts that a run is evaluated on, by the name of their split in its files.

    "unseen" are those that training never sees, "seen" the first ``seen`` of those it does; a
    split without a prompt is left out.
    """
    splits = {"unseen": held_out, "seen": train[:seen]}
    return {name: prompts for name, prompts in splits.items() if prompts}

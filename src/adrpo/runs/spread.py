"""The held-out prompts whose samples a run shows."""

from collections.abc import Sequence


def spread(categories: Sequence[str], count: int) -> list[int]:
    """Indices of ``count`` prompts, the categories in turn, in the prompts' order."""
    queues: dict[str, list[int]] = {}
    for index, category in enumerate(categories):
        queues.setdefault(category, []).append(index)
    turns = [
        index
        for place in range(max(map(len, queues.values())))
        for queue in queues.values()
        for index in queue[place : place + 1]
    ]
    return turns[:count]

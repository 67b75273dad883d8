"""Tasks of reasoning-gym: questions made by a generator, with a scorer for each."""

import difflib
from collections.abc import Mapping
from typing import Any

from adrpo.data.rows import Row
from adrpo.errors import AdrpoError

INSTRUCTION = "Give the final answer between <answer> and </answer>."


def create_task(
    name: str, *, size: int, seed: int, options: Mapping[str, Any] | None = None
) -> Any:
    """The task ``name`` of reasoning-gym: entry i for i from 0 to size - 1, and ``score_answer``.

    Equal arguments give equal entries, whoever asks.

    Args:
        name: as reasoning-gym registers it: "chain_sum", "countdown", ...
        size: number of entries.
        seed: which entries.
        options: further settings of the task, such as {"min_terms": 2}.

    Raises:
        AdrpoError: reasoning-gym is not installed, has no such task, or refuses the settings.
    """
    try:
        import reasoning_gym  # pyright: ignore[reportMissingImports]
        from reasoning_gym.factory import DATASETS  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise AdrpoError(
            f"the task {name!r} needs reasoning-gym ({error}): pip install reasoning-gym"
        ) from error
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise AdrpoError(f"expected a task of reasoning-gym, received {name!r}{hint}")
    settings = {"size": size, "seed": seed, **(options or {})}
    try:
        return reasoning_gym.create_dataset(name, **settings)
    except (TypeError, ValueError, AssertionError) as error:  # how its configurations refuse
        raise AdrpoError(
            f"the task {name!r} of reasoning-gym refuses the settings {settings}: "
            f"{' '.join(str(error).split()) or type(error).__name__}"
        ) from error


def task_rows(task: Any, *, instruction: str = INSTRUCTION) -> list[Row]:
    """One row an entry: {"prompt": question and instruction, "answer", "index"}.

    ``index`` is what the reward ``reasoning_gym`` finds the entry by: an entry's metadata may hold
    what neither JSON nor Arrow keeps as it is.
    """
    entries = (task[index] for index in range(len(task)))
    return [
        {
            "prompt": "\n".join(filter(None, (entry["question"].strip(), instruction))),
            "answer": entry["answer"],
            "index": index,
        }
        for index, entry in enumerate(entries)
    ]

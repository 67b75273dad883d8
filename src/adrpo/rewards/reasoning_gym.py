"""The scorers of reasoning-gym's tasks."""

from collections.abc import Mapping, Sequence
from typing import Any

from adrpo.data.reasoning_gym import create_task
from adrpo.errors import AdrpoError
from adrpo.rewards.completions import Completion, column, completion_text, tagged


class ReasoningGym:
    """The score of a reasoning-gym task for the content of the <answer> tag, in [0, 1].

    reward = task.score_answer(content, entry), with None as content where no tag is closed. The
    entry is found by its index, so the task must be the one that made the prompts
    (:func:`adrpo.data.reasoning_gym.task_rows`): same name, size, seed and options. Some tasks give
    part of the score for an answer that is close. What a task's scorer raises is not caught.
    Source: reasoning-gym (arXiv 2505.24760).

    Args:
        task: its name, as "chain_sum".
        size: number of its entries.
        seed: of its generator.
        options: its further settings.
        index: the column with the entries' numbers.
        tag: the tag's name.

    Raises:
        AdrpoError: reasoning-gym is not installed or has no such task; on a call, no column of
            indices, or one out of range.
    """

    reads_whole_turns = True
    """A thought that the chat template opened is part of what is read."""

    def __init__(
        self,
        task: str,
        size: int = 500,
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
        index: str = "index",
        tag: str = "answer",
    ) -> None:
        self.task = create_task(task, size=size, seed=seed, options=options)
        self.name, self.size, self.index, self.tag = task, size, index, tag

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Completion], **columns: Any
    ) -> list[float]:
        """One score a completion."""
        indices = column(
            columns, self.index, len(completions), reward="reasoning_gym", option="index"
        )
        # The samples of one prompt share its entry, which is generated anew each time.
        entries = {index: self._entry(index) for index in dict.fromkeys(indices)}
        return [
            float(
                self.task.score_answer(
                    tagged(completion_text(completion), self.tag), entries[index]
                )
            )
            for completion, index in zip(completions, indices, strict=True)
        ]

    def _entry(self, index: Any) -> Mapping[str, Any]:
        if not isinstance(index, int) or not 0 <= index < self.size:
            raise AdrpoError(
                f"reasoning_gym: expected indices from 0 to {self.size - 1} of the task "
                f"{self.name!r} in the column {self.index!r}, received {index!r:.60}; give the "
                "reward the size with which the prompts were made"
            )
        return self.task[index]

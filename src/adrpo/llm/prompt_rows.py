"""The prompts of a run: rows to train on, and rows to evaluate on."""

from typing import Any

from adrpo.config import LanguagePromptsSection
from adrpo.data.rows import load_rows, split_rows
from adrpo.data.sums import split_sums
from adrpo.embedded.questions import question_set

QUESTIONS = "questions"
SUMS = "sums"

Row = dict[str, Any]


def load_prompt_rows(prompts: LanguagePromptsSection) -> tuple[list[Row], list[Row]]:
    """Rows with a "prompt" and the source's other columns, in a fixed order: (train, held out).

    Raises AdrpoError for a source that can't be read, or too small to hold anything out.
    """
    if prompts.source == QUESTIONS:
        train_size, held_out_size = prompts.train_size, prompts.held_out_size
        assert train_size is not None and held_out_size is not None
        return (
            _questions(train_size, prompts.split_seed, held_out=False),
            _questions(held_out_size, prompts.split_seed, held_out=True),
        )
    seed, share = prompts.split_seed, prompts.held_out_share
    if prompts.source == SUMS:
        train, held_out = split_sums(seed=seed, held_out=share)
    else:
        rows = load_rows(prompts.source, prompt=prompts.column)
        train, held_out = split_rows(rows, seed=seed, held_out=share)
    return train[: prompts.train_size], held_out[: prompts.held_out_size]


def _questions(size: int, seed: int, *, held_out: bool) -> list[Row]:
    return [
        {"prompt": question.prompt, "category": question.category, "answer": question.answer}
        for question in question_set(size, held_out=held_out, seed=seed)
    ]


def categories_of(rows: list[Row]) -> list[str]:
    """The column "category" of each row, or the empty string."""
    return [str(row.get("category") or "") for row in rows]

"""The prompts of a run: rows to train on, and rows to evaluate on."""

from typing import Any

from adrpo.config import LanguagePromptsConfig
from adrpo.data.rows import load_rows, split_rows
from adrpo.embedded.questions import question_set
from adrpo.errors import AdrpoError

QUESTIONS = "questions"

Row = dict[str, Any]


def load_prompt_rows(prompts: LanguagePromptsConfig) -> tuple[list[Row], list[Row]]:
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
    rows = load_rows(prompts.source, prompt=prompts.column)
    train, held_out = split_rows(rows, seed=prompts.split_seed, held_out=prompts.held_out)
    return train[: prompts.train_size], held_out[: prompts.held_out_size]


def _questions(size: int, seed: int, *, held_out: bool) -> list[Row]:
    return [
        {"prompt": question.prompt, "category": question.category, "answer": question.answer}
        for question in question_set(size, held_out=held_out, seed=seed)
    ]


def categories_of(rows: list[Row]) -> list[str]:
    """The column "category" of each row, or the empty string."""
    return [str(row.get("category") or "") for row in rows]


def model_source(pretrained: str) -> str:
    """A folder or Hub id for ``from_pretrained``."""
    from pathlib import Path

    if pretrained == "embedded":
        from adrpo.embedded.weights import weights_path

        return str(weights_path("language_model"))
    folder = Path(pretrained).expanduser()
    if folder.exists():
        return str(folder)
    if folder.is_absolute() or pretrained.startswith((".", "~")) or pretrained.count("/") != 1:
        raise AdrpoError(
            f"model.pretrained: expected 'embedded', a folder or a Hub id ('owner/name'), received "
            f"{pretrained!r}: there is no such folder"
        )
    return pretrained

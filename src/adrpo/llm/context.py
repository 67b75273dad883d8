"""Prompts against the context of the model."""

import re
import warnings
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from datasets import Dataset
from numpy.typing import NDArray

from adrpo.data.base import TAKEN, Prompt, text_of
from adrpo.errors import AdrpoError, AdrpoWarning

pc: Any = pyarrow.compute
"""Arrow's functions, which are made at import, so that pyright knows none of them."""

TOKENIZED = 1000
"""Prompts that are tokenized at once."""

PICTURES = frozenset({"image", "images"})
"""Columns in which TRL looks for what a model is to see."""


def bytes_of(prompt: Any) -> int:
    """UTF-8 bytes of a prompt: a text, or messages with a text as content."""
    texts = [prompt] if isinstance(prompt, str) else [str(turn["content"]) for turn in prompt]
    return sum(len(text.encode()) for text in texts)


def long_prompts(data: Dataset, context: int) -> list[int]:
    """The rows of ``data`` whose prompt may not fit a ``context`` of so many tokens.

    A token is at least one byte of text, so that only they need tokenizing.
    """
    return np.flatnonzero(prompt_sizes(data) >= context).tolist()


def prompt_sizes(data: Dataset) -> NDArray[np.int64]:
    """UTF-8 bytes of each prompt of ``data``.

    Texts and conversations are measured where they lie in Arrow, without an object for each.
    """
    table = data.select_columns(["prompt"]).with_format("arrow")[:]
    found: list[NDArray[np.int64]] = []
    for chunk in table["prompt"].chunks:
        sizes = _byte_sizes(chunk)
        if sizes is None:
            sizes = np.array([bytes_of(prompt) for prompt in chunk.to_pylist()], dtype=np.int64)
        found.append(sizes)
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _byte_sizes(prompts: pa.Array) -> NDArray[np.int64] | None:
    """UTF-8 bytes of each prompt; None for a column of another form."""
    kind = prompts.type
    if _is_text(kind):
        return _lengths(prompts)
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not is_list or not pa.types.is_struct(kind.value_type):
        return None
    field = kind.value_type.get_field_index("content")
    if field < 0 or not _is_text(kind.value_type.field(field).type):
        return None
    # flatten and field respect what slices and nulls leave out.
    turns = prompts.flatten()
    sums = np.concatenate([[0], _lengths(pc.struct_field(turns, field)).cumsum()])
    ends = pc.fill_null(pc.list_value_length(prompts), 0).to_numpy(zero_copy_only=False).cumsum()
    starts = np.concatenate([[0], ends[:-1]])
    return sums[ends] - sums[starts]


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _lengths(texts: pa.Array) -> NDArray[np.int64]:
    lengths = pc.fill_null(pc.binary_length(texts), 0)
    return lengths.to_numpy(zero_copy_only=False).astype(np.int64)


def context_of(config: Any) -> int | None:
    """Tokens that a model of this ``config`` has places for; None where it does not say."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def check_completion_length(length: int, config: Any) -> None:
    """Raise AdrpoError where completions of ``length`` tokens leave no room for a prompt in the
    context of a model of transformers' ``config``."""
    context = context_of(config)
    if context is not None and length >= context:
        raise AdrpoError(
            f"generation.max_completion_length: expected fewer tokens than the model's context of "
            f"{context}, in which the prompt stands, too; received {length}; lower it"
        )


def check_columns(names: Collection[str], *, sees: bool) -> None:
    """Raise AdrpoError where a column of a data set has a name by which rewards, or a model that
    ``sees``, are given something else; ``names`` are those of all its columns."""
    taken = sorted(set(names) & (TAKEN if sees else TAKEN | PICTURES))
    if taken:
        what = "pictures" if taken[0] in PICTURES else "something else"
        to = "a model that sees is" if taken[0] in PICTURES else "rewards are"
        raise AdrpoError(
            f"train_dataset: expected another name for the column {taken[0]!r}, since {to} given "
            f"{what} by that name; rename it"
        )


def check_vocabulary(trainer: Any, prompts: Sequence[Prompt]) -> None:
    """Raise AdrpoError where a prompt, or the end of a text, has a token beyond the rows of the
    model's table: a processor ends in an error of an index there, and a GPU in one of its own.

    A tokenizer may have more tokens than the table, which no prompt uses.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    rows = model.get_input_embeddings().weight.shape[0]
    tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
    settings = model.config.to_dict()
    clips = [value for key, value in settings.items() if re.fullmatch(r"audio_\w*token_id", key)]
    marks = (tokenizer.pad_token_id, tokenizer.eos_token_id, *clips)
    found = {token for token in marks if token is not None}
    if len(tokenizer) > rows:
        for prompt in prompts:
            turns = prompt.content
            texts = [turns] if isinstance(turns, str) else [str(turn["content"]) for turn in turns]
            found.update(*tokenizer(texts)["input_ids"])
    if beyond := sorted(token for token in found if token >= rows):
        raise AdrpoError(
            f"model.pretrained: expected a model that knows the tokens of its tokenizer; received "
            f"one of {rows} for a tokenizer of {len(tokenizer)}, whose token {beyond[0]} "
            f"({tokenizer.convert_ids_to_tokens(beyond[0])!r}) is used; take the model's own "
            f"tokenizer"
        )


class Room:
    """The room that prompts and completions have in the context of a model: no prompt may fill it,
    and one that leaves less than the longest completion takes is told of, once.

    Args:
        context: tokens that the model has places for; None where it does not say.
        completion: tokens of the longest completion; None without a bound.
    """

    def __init__(self, context: int | None = None, completion: int | None = None) -> None:
        self.context = context
        self._completion = completion
        self._told = False

    def check(self, prompt_ids: Sequence[Sequence[int]], prompts: Sequence[Any]) -> None:
        """Look at ``prompts`` and their tokens.

        Raises AdrpoError where one leaves no room for a token; the message shows where it begins.
        """
        if self.context is None:
            return
        for ids, prompt in zip(prompt_ids, prompts, strict=True):
            if len(ids) >= self.context:
                start = text_of(prompt)[:60]
                raise AdrpoError(
                    f"prompts: expected fewer tokens than the model's context of {self.context}, "
                    f"received {len(ids)} for the prompt that begins {start!r}; shorten it or "
                    f"filter it out"
                )
        self._tell([len(ids) for ids in prompt_ids], f"{len(prompts)} of a batch")

    def check_all(self, trainer: Any) -> None:
        """Look at the prompts of a trainer before training, where they are at hand; what streams,
        environments and clips add is checked batch by batch.

        Raises AdrpoError as ``check``.
        """
        data = trainer.train_dataset
        if self.context is None or trainer._is_vlm or trainer.environment_factories is not None:
            return
        if not isinstance(data, Dataset) or "prompt" not in data.column_names:
            return
        sizes = prompt_sizes(data)
        room = self.context - (self._completion or 0)
        may_fill = np.flatnonzero(sizes >= self.context)
        # Of those that may leave too little, some tell enough: tokenizing all could take minutes.
        may_crowd = np.flatnonzero((sizes > room) & (sizes < self.context))
        some = may_crowd[:: len(may_crowd) // TOKENIZED + 1]
        rows = np.concatenate([may_fill, some]).tolist()
        asked, self._told = self._told, True  # told of all of them together
        lengths: list[int] = []
        for first in range(0, len(rows), TOKENIZED):
            chunk: Any = data.select(rows[first : first + TOKENIZED])["prompt"]
            lengths += [len(ids) for ids in trainer._tokenize_prompts(list(chunk))[0]]
        self._told = asked
        left_out = len(may_crowd) - len(some)
        self._tell(lengths, f"{len(data) - left_out}{' looked at' if left_out else ''}")

    def _tell(self, lengths: Sequence[int], of: str) -> None:
        if self._told or self._completion is None or self.context is None:
            return
        short = [length for length in lengths if length + self._completion > self.context]
        if not short:
            return
        self._told = True
        left = self.context - max(short)
        warnings.warn(
            f"prompts: {len(short)} of {of} leave less room than max_completion_length = "
            f"{self._completion} in the model's context of {self.context} tokens: longer "
            f"completions go on at places that it has never seen, or has none for; the longest "
            f"leaves {left}: lower max_completion_length to that, or filter them out",
            AdrpoWarning,
            stacklevel=4,
        )

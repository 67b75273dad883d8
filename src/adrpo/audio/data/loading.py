"""Prompts of a run of the domain ``audio``, from the source that its configuration names."""

from adrpo.audio.data.forms import conversation
from adrpo.audio.data.world import read_world
from adrpo.config.audio_prompts import WORLD, AudioPromptsSection
from adrpo.data.base import Prompt, Row, prompts_of
from adrpo.errors import AdrpoError


def load_train(section: AudioPromptsSection) -> list[Prompt]:
    """The questions that are trained on, in a fixed order.

    Raises:
        AdrpoError: a source that can't be read, or that is too small to hold anything out.
    """
    source = f"{WORLD}:train" if section.source == WORLD else section.source
    return _prompts(source, section, section.train_size)


def load_held_out(section: AudioPromptsSection) -> list[Prompt]:
    """The questions that training never sees; errors as of :func:`load_train`."""
    source = section.held_out or section.source
    source = f"{WORLD}:held_out" if source == WORLD else source
    return _prompts(source, section, section.held_out_size)


def _prompts(source: str, section: AudioPromptsSection, size: int | None) -> list[Prompt]:
    if not source.startswith(WORLD):
        raise AdrpoError(f"expected {WORLD!r} as prompts.source, received {source!r}")
    rows = read_world(source, size=size, seed=section.split_seed)
    return prompts_of((source, _row(row, section)) for row in rows)


def _row(row: Row, section: AudioPromptsSection) -> Row:
    question = row.pop("question")
    content = conversation(question, row["choices"], form=section.form, system=section.system)
    return {"prompt": content, **row}

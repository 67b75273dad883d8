"""Section ``prompts`` of the domain ``audio``: questions about sound, and how they are asked."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from adrpo.config.fields import (
    Count,
    NonNegativeCount,
    Section,
    Share,
    Switch,
    Text,
    conflict,
    refusal,
    with_default,
)
from adrpo.config.llm import LanguagePromptsSection

WORLD = "sounds"
"""Name of the embedded world of sounds, whose train and held-out parts are a source."""

FINAL = "sounds:test"
"""Part of the world that is kept for final tables, and never trained on."""

WORLD_PARTS = ("sounds:train", "sounds:held_out", FINAL)

BENCHMARKS = ("mmau", "mmar")
"""Benchmarks whose questions can be held out: "mmau:PATH"."""

_SOURCES = (
    f"the path of a .jsonl file, or a data set (a folder, or 'owner/name' on the Hub; ':SPLIT' at "
    f"the end names its split), {', '.join(WORLD_PARTS)}"
)

FORMS = {
    "plain": "{question}\n{choices}\n",
    "answer": (
        "{question}\n{lettered}\n"
        "Write the text of the right choice between <answer> and </answer>, and nothing else."
    ),
    "think": (
        "{question}\n{lettered}\n"
        "Think about what you hear between <think> and </think>. Then write the text of the right "
        "choice between <answer> and </answer>."
    ),
}
"""Name of a form -> its text; {choices} are the choices, one a line, {lettered} the same behind
their letters."""

PLACES = ("question", "choices", "lettered")
"""Names that a form may have between braces."""


def _known_form(value: str) -> str:
    if value in FORMS:
        return value
    named = set(re.findall(r"\{(\w+)\}", value))
    if "question" not in named or not named & {"choices", "lettered"} or named - set(PLACES):
        raise refusal(
            f"expected {', '.join(FORMS)}, or a text of your own with {{question}} and {{choices}} "
            f"(or {{lettered}}, with their letters) and no other name in braces, received "
            f"{value!r:.80}"
        )
    return value


def known_held_out(value: str) -> str:
    """``value``, where it names questions to measure a model on; ValueError where it doesn't."""
    kind, colon, place = value.partition(":")
    if value in WORLD_PARTS or (kind in BENCHMARKS and place) or _is_own(value):
        return value
    hint = f"; name its file or folder, as {kind}:PATH" if kind in BENCHMARKS and colon else ""
    benchmarks = " or ".join(f"{name}:PATH" for name in BENCHMARKS)
    raise refusal(f"expected {_SOURCES}, or {benchmarks}, received {value!r}{hint}")


def _known_source(value: str) -> str:
    kind, _, _ = value.partition(":")
    if value == FINAL or kind in BENCHMARKS:
        raise refusal(
            f"expected questions to train on, received {value!r}, which is kept for final tables; "
            f"evaluate on it by prompts.held_out"
        )
    if value == WORLD or value in WORLD_PARTS or _is_own(value):
        return value
    raise refusal(f"expected {WORLD}, {_SOURCES}, received {value!r}")


def _is_own(value: str) -> bool:
    """True where ``value`` has the form of a file or a data set."""
    place = place_and_split(value)[0]
    known = place.partition(":")[0] in (WORLD, *BENCHMARKS)
    return not known and (Path(place).suffix == ".jsonl" or "/" in place or Path(place).is_dir())


def place_and_split(source: str) -> tuple[str, str]:
    """A file, folder or Hub id, and the split that is named behind it: "train" where none is."""
    place, colon, split = source.rpartition(":")
    named = colon and "/" not in split and not split.endswith(".jsonl")
    return (place, split) if named else (source, "train")


class AudioColumnsSection(Section):
    """Names of the columns of a source; null is the known data set's own, or the key's name."""

    audio: Text | None = Field(
        default=None, description="Column of the clips: paths, or the Audio of a data set."
    )
    question: Text | None = Field(default=None, description="Column of the questions.")
    choices: Text | None = Field(
        default=None,
        description="Column of the choices, a list of texts; not needed where each question ends "
        "in 'Choices:' and a choice a line, as AVQA's.",
    )
    answer: Text | None = Field(
        default=None, description="Column of the right choice: its text, its letter or its number."
    )
    category: Text | None = Field(
        default=None, description="Column that groups the metrics; a source may have none."
    )


class AudioPromptsSection(Section):
    """Questions that are trained on, and questions that are kept for evaluation."""

    source: Annotated[Text, AfterValidator(_known_source)] = Field(
        default=WORLD,
        description="'sounds', the path of a .jsonl file with one question a line, or a data set "
        "(a folder, or its Hub id) as docs/use/audio.md says.",
    )
    held_out: Annotated[Text, AfterValidator(known_held_out)] | None = Field(
        default=None,
        description="Questions that training never sees, from a source of their own, which can be "
        "'sounds:test' and 'mmau:PATH', too; null: a share of source. Ours.",
    )
    held_out_share: Share = Field(
        default=0.1,
        description="Share of the clips of source that training never hears, with held_out: null; "
        "'sounds' has a split of its own, by combination. Ours.",
    )
    split_seed: NonNegativeCount = with_default(LanguagePromptsSection, "split_seed", 0)
    train_size: Count | None = Field(
        default=1000,
        description="Questions that 'sounds' has, and at most so many of another source, of which "
        "null takes all. Ours.",
    )
    held_out_size: Count | None = Field(
        default=105,
        description="Questions that 'sounds' has, and at most so many of another source, of which "
        "null takes all. Ours.",
    )
    columns: AudioColumnsSection = Field(
        default=AudioColumnsSection(), description="Names of the columns of a source. Ours."
    )
    audio_folder: Text | None = Field(
        default=None,
        description="Folder that relative paths of clips start from; null: that of the file.",
    )
    faulty: Literal["refuse", "leave_out"] = Field(
        default="refuse",
        description="What happens to questions whose answer is none of their choices, whose "
        "choices repeat, or whose clip can't be heard: refuse ends the run before it starts, "
        "leave_out leaves them out and counts them. Ours.",
    )
    form: Annotated[Text, AfterValidator(_known_form)] = Field(
        default="plain",
        description="How a question is asked: plain (the question and its choices, one a line), "
        "answer (the answer in `<answer>`), think (thoughts in `<think>` before it), or a text of "
        "your own with {question} and {choices}, or {lettered} for choices behind letters. Ours.",
    )
    system: Text | None = Field(
        default=None, description="Text of a turn of the system before the question. Ours."
    )
    shuffle_choices: Switch | None = Field(
        default=None,
        description="Whether choices get a new order by split_seed, each letter right equally "
        "often; null: yes, but for 'sounds', whose letters are balanced, and benchmarks. Ours.",
    )

    @model_validator(mode="after")
    def _worlds_are_counted(self) -> Self:
        for key, source in (("train_size", self.source), ("held_out_size", self.evaluated)):
            if source.partition(":")[0] == WORLD and getattr(self, key) is None:
                raise conflict(
                    f"{key}: expected a number with {source!r}, which has no end; received null"
                )
        return self

    @model_validator(mode="after")
    def _disjoint(self) -> Self:
        if self.held_out is None and self.source in WORLD_PARTS:
            raise conflict(
                f"source: expected {WORLD!r}, which comes with a held-out part of its own, or "
                f"prompts.held_out beside it, received {self.source!r}"
            )
        if self.held_out is not None and _one(self.trained) == _one(self.held_out):
            raise conflict(
                "held_out: expected a source without questions of prompts.source, "
                f"received {self.held_out!r} beside {self.source!r}"
            )
        return self

    @property
    def trained(self) -> str:
        """The source that is trained on: of the world its training part."""
        return f"{WORLD}:train" if self.source == WORLD else self.source

    @property
    def evaluated(self) -> str:
        """The source that is held out, or a share of which is: of the world its held-out part."""
        if self.held_out is not None:
            return self.held_out
        return f"{WORLD}:held_out" if self.source == WORLD else self.source


def _one(source: str) -> tuple[Path, str]:
    """Equal for two spellings of one source."""
    place, split = place_and_split(source)
    return Path(place), split

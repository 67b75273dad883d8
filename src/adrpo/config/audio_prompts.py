"""Section ``prompts`` of the domain ``audio``: questions about sound, and how they are asked."""

from typing import Annotated, Self

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
"""Name of the embedded world of sounds."""

WORLD_PARTS = tuple(f"{WORLD}:{part}" for part in ("train", "held_out", "test"))
"""Names of its splits."""

FINAL = "sounds:test"
"""Split that is kept for final tables, and never trained on."""

BENCHMARKS = ("mmau", "mmar")
"""Benchmarks whose questions can be held out: "mmau:PATH"."""

FORMS = {
    "plain": "{question}\n{choices}\n",
    "answer": (
        "{question}\n{lettered}\nAnswer with one of these choices, its letter and its text, "
        "inside <answer> and </answer>, and write nothing else."
    ),
    "think": (
        "{question}\n{lettered}\nFirst think about what you hear, inside <think> and </think>. "
        "Then answer with one of these choices, its letter and its text, inside <answer> and "
        "</answer>."
    ),
}
"""Name of a prompt form -> its text; {choices} are the choices, one a line, {lettered} the same
behind their letters."""


def _known_form(value: str) -> str:
    text = FORMS.get(value, value)
    if "{question}" not in text or not ("{choices}" in text or "{lettered}" in text):
        raise refusal(
            f"expected {', '.join(FORMS)}, or a text of your own with {{question}} and {{choices}} "
            f"(or {{lettered}}: with their letters), received {value!r:.80}"
        )
    return value


def _known_source(value: str) -> str:
    if value.startswith(f"{WORLD}:") and value not in WORLD_PARTS:
        raise refusal(f"expected {WORLD}, {', '.join(WORLD_PARTS)}, received {value!r}")
    return value


AudioSource = Annotated[Text, AfterValidator(_known_source)]


class AudioPromptsSection(Section):
    """Questions that are trained on, and questions that are kept for evaluation."""

    source: AudioSource = Field(
        default=WORLD,
        description="'sounds', the path of a .jsonl file with one question a line, or a data set "
        "(a folder, or its Hub id); docs/use/audio.md.",
    )
    held_out: AudioSource | None = Field(
        default=None,
        description="Questions that training never sees, from a source of their own, which can be "
        "'mmau:PATH', too; null: a share of source. Ours.",
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
    form: Annotated[Text, AfterValidator(_known_form)] = Field(
        default="plain",
        description="How a question is asked: plain (the question and its choices, one a line), "
        "answer (the answer in <answer>), think (thoughts in <think> before it), or a text of your "
        "own with {question} and {choices} or {lettered}. Ours.",
    )
    system: Text | None = Field(
        default=None, description="Text of a turn of the system before the question. Ours."
    )
    audio_folder: Text | None = Field(
        default=None,
        description="Folder that relative paths of clips start from; null: that of the file.",
    )
    columns: dict[str, Text] | None = Field(
        default=None,
        description="Names of the columns audio, question, choices, answer and category where they "
        "are others, as audio: audio_path; null: the data set's own.",
    )
    shuffle_choices: Switch | None = Field(
        default=None,
        description="Order the choices anew by split_seed, each letter right equally often; null: "
        "of every source but 'sounds', whose letters are balanced, and benchmarks. Ours.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.source == FINAL:
            raise conflict(
                f"source: expected questions to train on, received {FINAL!r}, which is kept for "
                f"final tables; evaluate on it by prompts.held_out"
            )
        return self

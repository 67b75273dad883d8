"""The door of audio-language models: that of language models, with clips beside the prompts."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adrpo.audio.facts import EMBEDDED, FACTS
from adrpo.config.audio_prompts import WORLD_PARTS, known_held_out
from adrpo.data.base import Content, Prompt
from adrpo.data.identity import shared_prompts
from adrpo.errors import AdrpoError
from adrpo.evaluation.door import Door
from adrpo.llm.domain import LanguageDoor
from adrpo.runs.model_folder import MODEL_CONFIG

if TYPE_CHECKING:
    from adrpo.audio.run import AudioRun


class AudioDoor(LanguageDoor):
    """The :class:`~adrpo.evaluation.door.Door` of audio-language models."""

    packages: tuple[str, ...] = ("trl", "datasets", "soundfile", "soxr")
    extra = "audio"
    options = frozenset({"--lora", "--audio"})
    facts = FACTS
    usual: tuple[str, ...] = ("audio/embedded",)

    def build(self, config: Any, *, reward: Callable[..., Any] | None = None) -> "AudioRun":
        from adrpo.audio import AudioRun

        return AudioRun(config, reward=reward)

    def on_prompts(self, config: Any, source: str) -> Any:
        # As in every domain: a file or a data set is taken whole.
        size = config.prompts.held_out_size if source in WORLD_PARTS else None
        try:
            update = {"held_out": known_held_out(source), "held_out_size": size}
        except ValueError as error:
            raise AdrpoError(f"--prompts: {error}") from None
        section = config.prompts.model_copy(update=update)
        return config.model_copy(update={"prompts": section})

    def asked(self, run: Any, texts: Sequence[str], clips: Sequence[Path]) -> list[Prompt]:
        """Questions of a user's own: the first line of a text is the question, further ones are its
        choices, which are asked as those of training."""
        if len(clips) not in (0, 1, len(texts)):
            raise AdrpoError(
                f"--audio: expected one file for all prompts or one for each of {len(texts)}, "
                f"received {len(clips)}"
            )
        heard = [*map(str, clips)] * (len(texts) if len(clips) == 1 else 1)
        return [
            Prompt(
                _asked(run.config.prompts, text), columns={"audio": clip, "source_row": "--audio"}
            )
            for text, clip in zip(texts, heard or [None] * len(texts), strict=True)
        ]

    def embedded(self) -> Mapping[str, Callable[[], object]]:
        return {EMBEDDED: _load_model}

    def reads(self, described: Mapping[str, Any]) -> bool:
        from adrpo.llm.pretrained import HEARING

        return described.get(MODEL_CONFIG, {}).get("model_type") in HEARING

    def check_kind(self, config: Any) -> None:
        from adrpo.audio.pretrained import check_hears
        from adrpo.llm.context import check_completion_length
        from adrpo.llm.pretrained import model_source

        found = check_hears(model_source(config.model, embedded=EMBEDDED))
        check_completion_length(config.generation.max_completion_length, found)

    def memory(self, config: Any, prompts: Sequence[Prompt], free: float | None) -> list[str]:
        from adrpo.audio.memory.advice import longest, memory_lines
        from adrpo.llm.pretrained import model_source

        source = model_source(config.model, embedded=EMBEDDED)
        tokens, seconds = longest(config, source, prompts)
        return memory_lines(config, source, free, tokens=tokens, seconds=seconds)

    def shared(self, train: Sequence[Prompt], held_out: Sequence[Prompt]) -> str | None:
        from adrpo.audio.data import by_clip_and_words

        return shared_prompts(train, held_out, by_clip_and_words)

    def prompts(self, config: Any) -> tuple[list[Prompt], list[Prompt]]:
        from adrpo.audio.data import load_held_out, load_train

        return load_train(config.prompts), load_held_out(config.prompts)


def _asked(section: Any, text: str) -> Content:
    from adrpo.audio.data.forms import conversation

    question, *choices = [line.strip() for line in text.strip().splitlines()] or [""]
    form = section.form if choices else "{question}"
    return conversation(question, choices, form=form, system=section.system)


def _load_model() -> object:
    from adrpo.audio.pretrained import load_thinker
    from adrpo.audio.processor import AudioProcessor
    from adrpo.embedded.weights import weights_path

    folder = str(weights_path(EMBEDDED))
    return load_thinker(folder), AudioProcessor.from_pretrained(folder)


DOOR: Door = AudioDoor()

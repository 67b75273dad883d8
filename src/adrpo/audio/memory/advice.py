"""The memory that ``adrpo doctor`` expects an audio-language model's recipe to take, in words."""

from collections.abc import Sequence

from adrpo.audio.memory.architecture import read_thinker
from adrpo.audio.memory.estimate import estimate
from adrpo.audio.processor import AudioProcessor
from adrpo.audio.sound import seconds_of, sources_of
from adrpo.config.llm import CompletionConfig
from adrpo.data.base import Prompt
from adrpo.llm.memory.advice import ASSUMED_PROMPT, described, most_tokens, scoring_models, unknown
from adrpo.llm.memory.estimate import Lengths
from adrpo.memory import Estimate

ASSUMED_SECONDS = 30.0
"""Length of a prompt's clips, while their lengths are not known."""


def memory_lines(
    config: CompletionConfig,
    source: str,
    available: float | None,
    *,
    tokens: int | None = None,
    seconds: float | None = None,
) -> list[str]:
    """The estimate in words (``estimate_lines``), for a GPU of ``available`` bytes or for none.

    Args:
        config: the recipe.
        source: where its model is, as ``from_pretrained`` takes it.
        available: bytes of the GPU.
        tokens: of the longest prompt, its clips left out; None where it is not known.
        seconds: of the longest clip, or clips of one prompt; None where they are not known.
    """
    thinker = read_thinker(source)
    if thinker is None:
        return [unknown(config.model.pretrained)]
    completion = config.generation.max_completion_length
    lengths = Lengths(prompt=ASSUMED_PROMPT if tokens is None else tokens, completion=completion)
    heard = ASSUMED_SECONDS if seconds is None else seconds

    def estimated(changed: CompletionConfig) -> Estimate:
        scorers, uncounted = scoring_models(changed)
        return estimate(thinker, changed, lengths, heard, scorers=scorers, uncounted=uncounted)

    return described(
        config,
        estimated,
        f"for clips of {heard:.3g} s ({_known(seconds)}), {thinker.encoder.tokens(heard)} tokens; "
        f"texts of {lengths.prompt} tokens ({_known(tokens)}) and {completion} more",
        available,
    )


def longest(
    config: CompletionConfig, source: str, prompts: Sequence[Prompt]
) -> tuple[int | None, float | None]:
    """Tokens of the longest text of ``prompts``, and seconds of the most sound that one has; None
    where they are not known: without a prompt, or for the text without a tokenizer on this
    machine."""
    if not prompts:
        return None, None
    clips = (sources_of(prompt.columns.get("audio")) for prompt in prompts)
    seconds = max(sum(seconds_of(clip) for clip in each) for each in clips)
    try:
        processor = AudioProcessor.from_pretrained(source, local_files_only=True)
    except Exception:  # a library's: loading the model tells of it
        return None, seconds
    texts = [prompt.content for prompt in prompts]
    template = config.model.chat_template_kwargs
    return most_tokens(processor.tokenizer, texts, template), seconds


def _known(length: float | None) -> str:
    return "assumed" if length is None else "the longest here"

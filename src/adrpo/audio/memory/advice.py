"""The memory that ``adrpo doctor`` expects an audio-language model's recipe to take, in words."""

from adrpo.audio.memory.architecture import read_thinker
from adrpo.audio.memory.estimate import estimate
from adrpo.config import LanguageConfig
from adrpo.llm.memory.advice import ASSUMED_PROMPT, described, scoring_models, unknown
from adrpo.llm.memory.estimate import Lengths
from adrpo.memory import Estimate

ASSUMED_SECONDS = 30.0
"""Length of a prompt's clips, while their lengths are not known."""


def memory_lines(
    config: LanguageConfig,
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

    def estimated(changed: LanguageConfig) -> Estimate:
        scorers, uncounted = scoring_models(changed)
        return estimate(thinker, changed, lengths, heard, scorers=scorers, uncounted=uncounted)

    return described(
        config,
        estimated,
        f"for clips of {heard:.3g} s ({_known(seconds)}), {thinker.encoder.tokens(heard)} tokens; "
        f"texts of {lengths.prompt} tokens ({_known(tokens)}) and {completion} more",
        available,
    )


def _known(length: float | None) -> str:
    return "assumed" if length is None else "the longest here"

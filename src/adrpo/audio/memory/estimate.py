"""GPU memory of training a Thinker before anything is loaded.

The language model's estimate (``adrpo.llm.memory.estimate``), of prompts that are longer by the
tokens of their clips, and with

    weights, reference   those of the audio encoder and of the part for pictures, too: both are
                         frozen, and there again in a reference that is a model of its own
    clips                the encoder's output for all clips of a batch, which travels with its rows
    encoding             the encoder at work on one clip, since each is encoded alone
    update, generation   the encoder's output once more, for each of the rows at work

The reference's pass of an adapted model needs a part of what the update needs, and is no line.

``tests/unit/audio/test_thinker_memory.py`` holds it to torch's own count. Assumed: clips in all
prompts, as long as the longest.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from adrpo.audio.memory.architecture import Thinker
from adrpo.llm.memory.estimate import (
    Lengths,
    Scorer,
    arithmetic_bytes,
    rows_at_a_time,
    rows_drawn_at_a_time,
)
from adrpo.llm.memory.estimate import estimate as language_estimate
from adrpo.memory import Estimate

if TYPE_CHECKING:
    from adrpo.config.llm import CompletionConfig


def estimate(
    thinker: Thinker,
    config: "CompletionConfig",
    lengths: Lengths,
    seconds: float,
    *,
    scorers: Sequence[Scorer] = (),
    uncounted: Iterable[str] = (),
) -> Estimate:
    """Memory of training ``config``.

    Args:
        thinker: of ``config.model``.
        lengths: of the longest row, its clips left out.
        seconds: of the clips of a row together.
        scorers: reward models, of training and of evaluation.
        uncounted: names of models of unknown size.
    """
    language, encoder = thinker.language, thinker.encoder
    heard = encoder.tokens(seconds)
    whole = Lengths(prompt=lengths.prompt + heard, completion=lengths.completion)
    found = language_estimate(language, config, whole, scorers=scorers, uncounted=uncounted)
    size = arithmetic_bytes(config.model)
    embedding = heard * language.width * size
    working = found.working | {"encoding": encoder.work(heard, size)}
    working["update"] += rows_at_a_time(config) * embedding
    working["generation"] += rows_drawn_at_a_time(config) * embedding
    return Estimate(
        resident=found.resident | {"clips": clips_at_a_time(config) * embedding},
        working=working,
        uncounted=found.uncounted,
    )


def clips_at_a_time(config: "CompletionConfig") -> int:
    """Prompts whose clips are encoded together: those of a step, or of an evaluation's batch."""
    evaluation = config.evaluation
    drawn = -(-evaluation.batch_size // evaluation.samples_per_prompt)
    return max(config.training.prompts_per_step, drawn)

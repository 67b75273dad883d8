"""Sizes of a Thinker, read from its configuration; no weights are loaded."""

import math
from dataclasses import dataclass
from typing import Any

from adrpo.audio.encoder import frozen_parts
from adrpo.audio.memory.published import PUBLISHED
from adrpo.llm.memory.architecture import Architecture, architecture_of

FRAMES_A_TOKEN = 4
"""Frames of a spectrogram behind a token: a convolution and the mean of two each halve them."""


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """The audio encoder as a memory estimate needs it.

    ``mels`` is the height of a spectrogram, ``width`` that of a frame between layers, ``hidden``
    that inside their MLP, ``tokens_a_second`` what the language model reads of a clip.
    """

    mels: int
    width: int
    hidden: int
    tokens_a_second: float

    def tokens(self, seconds: float) -> int:
        """Tokens that a clip of ``seconds`` takes in its prompt."""
        return math.ceil(seconds * self.tokens_a_second)

    def work(self, tokens: int, size: int) -> float:
        """Bytes of encoding a clip of ``tokens`` in numbers of ``size`` bytes.

        The largest layer at work, at two frames a token: its MLP before and after the activation,
        its input, the sum with the attention, and what the convolutions gave. Beside it the
        spectrogram, twice in float32 and once in ``size``. Attention is within windows of two
        seconds.
        """
        layer = 2 * tokens * (2 * self.hidden + 3 * self.width) * size
        return layer + FRAMES_A_TOKEN * tokens * self.mels * (8 + size)


@dataclass(frozen=True, kw_only=True)
class Thinker:
    """The two parts of a Thinker that work: what hears and what answers. The part for pictures is
    only there, in ``language.frozen``, as is the encoder."""

    language: Architecture
    encoder: Encoder


def read_thinker(source: str) -> Thinker | None:
    """The sizes of a folder, of a model in the Hub's cache, or of a published one, of Qwen2.5-Omni
    or its Thinker.

    None where neither files nor table tell them, or they are those of another model.
    """
    import torch
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration
    from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import (
        Qwen2_5OmniConfig,
        Qwen2_5OmniThinkerConfig,
    )

    known = {form.model_type for form in (Qwen2_5OmniConfig, Qwen2_5OmniThinkerConfig)}
    try:
        written, _ = Qwen2_5OmniThinkerConfig.get_config_dict(source, local_files_only=True)
        if written.get("model_type") not in known:
            return None
        # Of the whole it takes the part that is the Thinker's.
        config: Any = Qwen2_5OmniThinkerConfig.from_pretrained(source, local_files_only=True)
    except Exception:  # a library's: loading the model tells of it
        if source not in PUBLISHED:
            return None
        config = Qwen2_5OmniThinkerConfig(**PUBLISHED[source])
    try:
        # Modules of the meta device have shapes and no memory.
        with torch.device("meta"):
            model = Qwen2_5OmniThinkerForConditionalGeneration(config)
    except Exception:  # a library's: loading the model tells of it
        return None
    return thinker_of(model, tokens_a_second(source) or config.position_id_per_seconds)


def tokens_a_second(source: str) -> float | None:
    """Tokens of a second of sound, by the feature extractor of a model on this machine; None where
    it has none here."""
    from transformers import WhisperFeatureExtractor

    try:
        extractor: Any = WhisperFeatureExtractor.from_pretrained(source, local_files_only=True)
    except Exception:  # a library's: loading the model tells of it
        return None
    return extractor.sampling_rate / extractor.hop_length / FRAMES_A_TOKEN


def thinker_of(model: Any, tokens_a_second: float | None = None) -> Thinker:
    """The sizes of a Thinker that is made already; Qwen2.5-Omni's own has 25 tokens a second."""
    config = model.config
    return Thinker(
        language=architecture_of(model, frozen_parts(model)),
        encoder=Encoder(
            mels=config.audio_config.num_mel_bins,
            width=config.audio_config.d_model,
            hidden=config.audio_config.encoder_ffn_dim,
            tokens_a_second=tokens_a_second or config.position_id_per_seconds,
        ),
    )

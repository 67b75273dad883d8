"""Conversations and clips as an audio-language model takes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoTokenizer, Qwen2_5OmniProcessor

from adrpo.audio.sound import at_rate, recorded
from adrpo.data.base import text_of
from adrpo.errors import AdrpoError, reading_template
from adrpo.runs.model_folder import NO_CODE


class AudioProcessor:
    """Tokenizer, feature extractor and chat template of an audio-language model.

    transformers' own processor of Qwen2.5-Omni can't be made without torchvision, which only its
    video part needs; these three are all that sound and text need.

    Args:
        tokenizer: of the model.
        feature_extractor: a WhisperFeatureExtractor.
        chat_template: of the processor, given to the tokenizer; without it the tokenizer's own.

    Raises:
        AdrpoError: no chat template.
    """

    def __init__(
        self, tokenizer: Any, feature_extractor: Any, *, chat_template: str | None = None
    ) -> None:
        if chat_template is not None:
            tokenizer.chat_template = chat_template
        if tokenizer.chat_template is None:
            raise AdrpoError(
                "processing_class: expected a chat template, which says where a clip stands; "
                "received none: set chat_template"
            )
        self.tokenizer = tokenizer
        self.feature_extractor = feature_extractor

    @classmethod
    def from_pretrained(cls, name: str, **options: Any) -> "AudioProcessor":
        """Processor of the model in a folder or on the Hub; ``options`` such as ``revision``."""
        written, _ = Qwen2_5OmniProcessor.get_processor_dict(name, **options)
        return cls(
            AutoTokenizer.from_pretrained(name, padding_side="left", **options, **NO_CODE),
            AutoFeatureExtractor.from_pretrained(name, **options, **NO_CODE),
            chat_template=written.get("chat_template"),
        )

    @classmethod
    def of(cls, processor: Any) -> "AudioProcessor":
        """Itself, or what it needs of transformers' processor of the model.

        Raises AdrpoError for what has no tokenizer or no feature extractor.
        """
        if isinstance(processor, cls):
            return processor
        parts = [getattr(processor, name, None) for name in ("tokenizer", "feature_extractor")]
        if None in parts:
            raise AdrpoError(
                "processing_class: expected an AudioProcessor or a processor with a tokenizer and "
                f"a feature_extractor, received a {type(processor).__name__}"
            )
        return cls(*parts, chat_template=getattr(processor, "chat_template", None))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the files that :meth:`from_pretrained` reads."""
        self.tokenizer.save_pretrained(folder)
        self.feature_extractor.save_pretrained(folder)

    def features(self, source: Any) -> Float[Tensor, "mels frames"]:
        """Log-mel spectrogram of a clip, as long as the clip.

        transformers pads every clip to the longest that the model hears (300 s) before the
        spectrogram, and crops by a mask. Silence of one window gives the same frames.

        Raises AdrpoError for a clip that can't be read, or that the model does not hear whole.
        """
        extractor = self.feature_extractor
        # As recorded: of a false rate the samples at the model's would be hours.
        samples, rate = recorded(source)
        if (seconds := len(samples) / rate) > extractor.chunk_length:
            raise AdrpoError(
                f"audio: expected at most {extractor.chunk_length} s, which the model hears, "
                f"received {seconds:.1f} s; cut or drop the clip"
            )
        return self._spectrogram(at_rate(samples, rate, extractor.sampling_rate))

    def _spectrogram(
        self, samples: Float32[np.ndarray, " samples"]
    ) -> Float[Tensor, "mels frames"]:
        extractor = self.feature_extractor
        hop = extractor.hop_length
        padded = -(-(len(samples) + extractor.n_fft) // hop) * hop
        extracted = extractor(
            samples,
            sampling_rate=extractor.sampling_rate,
            padding="max_length",
            max_length=min(padded, extractor.n_samples),
            return_attention_mask=True,
            return_tensors="pt",
        )
        frames = int(extracted["attention_mask"].sum())
        return extracted["input_features"][0, :, :frames]

    def prompt_ids(
        self, prompt: Any, clip_tokens: Sequence[int], audio_token_id: int, **template: Any
    ) -> list[int]:
        """Tokens of a prompt, its generation prompt included, with room for its clips.

        Args:
            prompt: a conversation; see :func:`with_audio`.
            clip_tokens: how many tokens each of its clips takes.
            audio_token_id: the token that the encoder's output replaces.
            template: further variables of the chat template.

        Raises:
            AdrpoError: the placeholders in the conversation as rendered are not one per clip.
        """
        with reading_template():
            ids = self.tokenizer.apply_chat_template(
                with_audio(prompt, len(clip_tokens)),
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                **template,
            )["input_ids"]
        if ids.count(audio_token_id) != len(clip_tokens):
            raise AdrpoError(
                f"prompt: expected one placeholder for each of its {len(clip_tokens)} clips, "
                f"received {ids.count(audio_token_id)} in the prompt that begins {_start(prompt)}; "
                "see that the chat template knows audio and the text holds no placeholder"
            )
        counts = iter(clip_tokens)
        return [
            token for token in ids for _ in range(next(counts) if token == audio_token_id else 1)
        ]


def with_audio(prompt: Any, clips: int) -> list[dict[str, Any]]:
    """Conversation whose clips have their place: before the text of the first message of the user.

    A conversation that has its own parts ``{"type": "audio"}``, one for each clip, stays as it is.

    Raises AdrpoError for a prompt that is no conversation, that has no message of the user, or
    whose own parts are not one for each clip.
    """
    if isinstance(prompt, str):
        raise AdrpoError(
            "prompt: expected a conversation, [{'role': 'user', 'content': ...}], so that a clip "
            f"has its place, received a text that begins {_start(prompt)}"
        )
    parts = [
        part for turn in prompt if isinstance(turn["content"], list) for part in turn["content"]
    ]
    placed = sum(part["type"] == "audio" for part in parts)
    if placed == clips:
        return prompt
    users = [index for index, turn in enumerate(prompt) if turn["role"] == "user"]
    if placed or not users:
        raise AdrpoError(
            f"prompt: expected a place for each of its {clips} clips, received "
            + (f"{placed} parts of type 'audio'" if placed else "no message of the user")
            + f" in the prompt that begins {_start(prompt)}"
        )
    turn = prompt[users[0]]
    content = turn["content"]
    text = [{"type": "text", "text": content}] if isinstance(content, str) else content
    heard = {**turn, "content": [{"type": "audio"}] * clips + text}
    return [*prompt[: users[0]], heard, *prompt[users[0] + 1 :]]


def _start(prompt: Any) -> str:
    return repr(text_of(prompt)[:60])

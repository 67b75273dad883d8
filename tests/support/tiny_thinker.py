"""A Thinker of Qwen2.5-Omni with a few ten thousand parameters, its processor, and sounds."""

from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5OmniThinkerForConditionalGeneration,
    WhisperFeatureExtractor,
)
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniThinkerConfig

RATE = 16_000
AUDIO = 5
SPECIAL = ["<unk>", "<pad>", "<eos>", "user", "assistant", "<|AUDIO|>", "<|audio_bos|>"]
SPECIAL += ["<|audio_eos|>", "<|IMAGE|>", "<|VIDEO|>", "<|vision_bos|>"]
WORDS = [*SPECIAL, "high", "low", "which", *"abcdefgh"]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ' ' }}"
    "{% if message['content'] is string %}{{ message['content'] + ' ' }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'audio' %}"
    "{{ '<|audio_bos|> <|AUDIO|> <|audio_eos|> ' }}{% else %}{{ part['text'] + ' ' }}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'assistant ' }}{% endif %}"
)


def tiny_processor() -> Any:
    """One token a word; 16 mels, a frame every 10 ms, at most 4 s."""
    from adrpo.audio import AudioProcessor

    vocabulary = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<eos>",
        padding_side="left",
    )
    extractor = WhisperFeatureExtractor(feature_size=16, sampling_rate=RATE, chunk_length=4)
    return AudioProcessor(fast, extractor, chat_template=CHAT_TEMPLATE)


def tiny_thinker(seed: int = 0, *, width: int = 16) -> Any:
    """Random weights, large enough that tokens differ in probability and the sound counts; the
    encoder and the language model have ``width``."""
    torch.manual_seed(seed)
    config = Qwen2_5OmniThinkerConfig(
        audio_config={
            "num_mel_bins": 16,
            "encoder_layers": 1,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 2 * width,
            "d_model": width,
            "max_source_positions": 200,
            "n_window": 20,
            "output_dim": width,
            "initializer_range": 0.3,
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": width,
            "fullatt_block_indexes": [0],
        },
        text_config={
            "vocab_size": len(WORDS),
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": 2,
            "num_attention_heads": width // 8,
            "num_key_value_heads": width // 16,
            "max_position_embeddings": 256,
            "eos_token_id": 2,
            "pad_token_id": 1,
            "initializer_range": 0.3,
            "rope_parameters": {
                "rope_theta": 10_000.0,
                "rope_type": "default",
                "mrope_section": [1, 1, 2],
            },
        },
        audio_token_id=AUDIO,
        audio_start_token_id=6,
        audio_end_token_id=7,
        image_token_id=8,
        video_token_id=9,
        vision_start_token_id=10,
        initializer_range=0.3,
    )
    return Qwen2_5OmniThinkerForConditionalGeneration(config).eval()


def tone(hertz: float, seconds: float) -> dict[str, Any]:
    """A clip as a row of a data set holds it."""
    times = np.arange(int(seconds * RATE)) / RATE
    sound = 0.5 * np.sin(2 * np.pi * hertz * times)
    return {"array": sound.astype(np.float32), "sampling_rate": RATE}


def asked(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]

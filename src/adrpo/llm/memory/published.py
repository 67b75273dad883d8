"""Shapes of published language models, for estimates before a config.json is here."""

from typing import Any

_QWEN3 = {
    "model_type": "qwen3",
    "vocab_size": 151936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": True,
}

PUBLISHED: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2-0.5B-Instruct": {
        "model_type": "qwen2",
        "vocab_size": 151936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen3-0.6B": _QWEN3,
    "Skywork/Skywork-Reward-V2-Qwen3-0.6B": {**_QWEN3, "num_labels": 1},
    "weqweasdas/RM-Gemma-2B": {
        "model_type": "gemma",
        "vocab_size": 256000,
        "hidden_size": 2048,
        "intermediate_size": 16384,
        "num_hidden_layers": 18,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
        "head_dim": 256,
        "max_position_embeddings": 8192,
        "num_labels": 1,
    },
}
"""Hub id -> what config.json says of its sizes. Those of Qwen2 and Qwen3 are held to the bytes of
their files by a test; each reward model has the shape of the model that its card says it was
trained from (Qwen3-0.6B, gemma-2b-it), and was not read itself."""

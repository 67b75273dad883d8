"""Shapes of published Thinkers, for estimates before a config.json is here."""

from typing import Any

_ROTATION = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
_IDS = {"audio_start_token_id": 151647, "vision_start_token_id": 151652}
_TEXT_3B = {
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
}

PUBLISHED: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-Omni-7B": {
        "text_config": {"rope_parameters": _ROTATION},
        "vision_config": {"hidden_size": 1280},
        **_IDS,
    },
    "Qwen/Qwen2.5-Omni-3B": {
        "text_config": {"rope_parameters": _ROTATION, **_TEXT_3B},
        "audio_config": {"output_dim": 2048},
        "vision_config": {"hidden_size": 1280, "out_hidden_size": 2048},
        **_IDS,
    },
}
"""Hub id -> ``thinker_config`` of its config.json, as far as it is not transformers' default. The
widths are those of public implementations of the two; a test holds the 7B model's number of
parameters to one that was counted of its files."""

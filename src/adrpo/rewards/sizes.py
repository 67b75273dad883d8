"""Sizes of models that score, where they are not on this machine."""

SCORERS = {
    "openai/clip-vit-base-patch32": 151_277_313,
    "openai/clip-vit-large-patch14": 427_616_513,
    "yuvalkirstain/PickScore_v1": 986_109_441,
    "CodeGoat24/UnifiedReward-qwen-3b": 3_754_622_976,
}
"""Hub id -> parameters; UnifiedReward's are those of Qwen2.5-VL-3B."""

IN_16_BITS = ("CodeGoat24/UnifiedReward-qwen-3b",)
"""Models of the table that are published in 16 bits, not in float32."""


def published_bytes(model: str) -> float | None:
    """Bytes of the published weights of a model that scores; None where the table lacks it."""
    count = SCORERS.get(model)
    return None if count is None else (2.0 if model in IN_16_BITS else 4.0) * count

"""Sizes of published models, where they are not on this machine: the one table of every domain."""

SCORERS = {
    "openai/clip-vit-base-patch32": 151_277_313,
    "openai/clip-vit-large-patch14": 427_616_513,
    "yuvalkirstain/PickScore_v1": 986_109_441,
    "CodeGoat24/UnifiedReward-qwen-3b": 3_754_622_976,
}
"""Hub id -> parameters; UnifiedReward's are those of Qwen2.5-VL-3B."""

FEATURES = {"facebook/dinov2-base": 86_580_480, "facebook/dinov2-large": 304_368_640}
"""Hub id -> parameters of models by whose features distances are measured."""

IN_16_BITS = ("CodeGoat24/UnifiedReward-qwen-3b",)
"""Models of the two tables that are published in 16 bits, not in float32."""

FILES = {
    "Qwen/Qwen2-0.5B-Instruct": 988_097_824,
    "Qwen/Qwen3-0.6B": 1_503_300_328,
    "Qwen/Qwen2.5-Omni-7B": 21_464_450_816,
}
"""Hub id -> bytes of the weights of models that are trained. The first two are their files',
Qwen3's with its head, which is that of its embeddings, written out; Omni's are two for each of its
10,732,225,408 parameters, the Talker's included, of which some may be published in float32."""


def published_bytes(model: str) -> float | None:
    """Bytes of the published weights of a model; None where no table has it."""
    if model in FILES:
        return float(FILES[model])
    count = (SCORERS | FEATURES).get(model)
    return None if count is None else (2.0 if model in IN_16_BITS else 4.0) * count

"""Sizes of models that score, where they are not on this machine."""

SCORERS = {
    "openai/clip-vit-base-patch32": 151_277_313,
    "openai/clip-vit-large-patch14": 427_616_513,
    "yuvalkirstain/PickScore_v1": 986_109_441,
}
"""Hub id -> parameters."""


def published_bytes(model: str) -> float | None:
    """Bytes of the published weights of a model that scores, which are float32; None where the
    table lacks it."""
    count = SCORERS.get(model)
    return None if count is None else 4.0 * count

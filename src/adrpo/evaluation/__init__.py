"""Measures a model: image metrics on embeddings, and their 95 % intervals."""

from adrpo.evaluation.image_metrics import clip_diversity, clip_score
from adrpo.evaluation.statistics import (
    Interval,
    bootstrap_change,
    bootstrap_mean,
    bootstrap_ratio,
)

__all__ = [
    "Interval",
    "bootstrap_change",
    "bootstrap_mean",
    "bootstrap_ratio",
    "clip_diversity",
    "clip_score",
]

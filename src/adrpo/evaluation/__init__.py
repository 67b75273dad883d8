"""Measures a model: image metrics on embeddings, and their 95 % intervals."""

from adrpo.evaluation.distances import frechet_distance, kernel_distance
from adrpo.evaluation.image_metrics import clip_diversity, clip_score
from adrpo.evaluation.intervals import (
    Estimate,
    mean_over_seeds,
    over_seeds,
    paired_difference,
    paired_ratio,
)

__all__ = [
    "Estimate",
    "clip_diversity",
    "clip_score",
    "frechet_distance",
    "kernel_distance",
    "mean_over_seeds",
    "over_seeds",
    "paired_difference",
    "paired_ratio",
]

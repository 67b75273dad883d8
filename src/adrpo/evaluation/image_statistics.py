"""Statistics of the pixels alone, which betray a policy that games its reward.

A policy that exploits a reward model often empties its images, or covers them with patterns, long
before a score falls. Neither statistic says what is good: compare them with the base's.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

EDGE = 32.0
"""Change of luminance a pixel, of 255, from which on a pixel counts as an edge."""

COLOR_LEVELS = 8
"""Levels of each channel in the histogram of colors."""


def edge_density(image: Image.Image) -> float:
    """Share of pixels on an edge, in [0, 1]: sqrt(g_x^2 + g_y^2) > 32.

    g_x and g_y are central differences of the luminance (ITU-R 601, 0 to 255), one-sided at the
    border. It falls where a policy empties or smooths its images, and rises with noise.
    """
    luminance = np.asarray(image.convert("L"), dtype=np.float64)
    g_y, g_x = np.gradient(luminance)
    return float((np.hypot(g_x, g_y) > EDGE).mean())


def color_entropy(image: Image.Image) -> float:
    """Entropy of the colors in bits, in [0, 9]: -sum p log2 p over an 8 x 8 x 8 histogram of RGB.

    0 for one color; it falls where a policy narrows its palette.
    """
    pixels: NDArray[np.int64] = np.asarray(image.convert("RGB"), dtype=np.int64)
    bins = pixels * COLOR_LEVELS // 256
    index = (bins[..., 0] * COLOR_LEVELS + bins[..., 1]) * COLOR_LEVELS + bins[..., 2]
    share = np.bincount(index.ravel()) / index.size
    share = share[share > 0]
    return float(abs((share * np.log2(share)).sum()))


STATISTICS: dict[str, Callable[[Image.Image], float]] = {
    "edge_density": edge_density,
    "color_entropy": color_entropy,
}
"""Metric -> what an evaluation computes of each image."""

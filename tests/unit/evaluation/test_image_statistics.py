"""Edge density and color entropy on images whose values are known."""

import numpy as np
import pytest
from PIL import Image

from adrpo.evaluation.image_statistics import color_entropy, edge_density


def picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.astype(np.uint8))


def test_a_plain_image_has_neither_edges_nor_entropy():
    plain = picture(np.full((16, 16, 3), 90))
    assert edge_density(plain) == 0
    assert color_entropy(plain) == 0


def test_a_step_is_an_edge_of_two_columns():
    """A central difference sees a step from both of its sides: 2 of 16 columns."""
    halves = np.zeros((16, 16, 3))
    halves[:, 8:] = 255
    assert edge_density(picture(halves)) == pytest.approx(2 / 16)
    # A step of 60 has a central difference of 30, below the threshold of 32; one of 70 does not.
    assert edge_density(picture(halves * 60 / 255)) == 0
    assert edge_density(picture(halves * 70 / 255)) == pytest.approx(2 / 16)


def test_entropy_counts_equally_frequent_colors():
    quarters = np.zeros((16, 16, 3))
    quarters[:8, 8:] = (255, 0, 0)
    quarters[8:, :8] = (0, 255, 0)
    quarters[8:, 8:] = (0, 0, 255)
    assert color_entropy(picture(quarters)) == pytest.approx(2)
    # All 512 bins equally often is the maximum: 9 bits.
    levels = np.arange(8) * 32 + 16
    every = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(16, 32, 3)
    assert color_entropy(picture(every)) == pytest.approx(9)


def test_shades_within_a_bin_are_one_color():
    shades = np.tile(np.arange(64, 96), (32, 1))[..., None].repeat(3, -1)
    assert color_entropy(picture(shades)) == 0

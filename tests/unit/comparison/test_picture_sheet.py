"""The sheet of a comparison's pictures."""

from pathlib import Path

import numpy as np
from PIL import Image

from adrpo.comparison.picture_sheet import BLOCK_PIXELS, _block


def test_pictures_of_several_proportions_keep_them(tmp_path: Path) -> None:
    sizes = [(40, 80), (300, 100), (64, 64)]
    for place, size in enumerate(sizes):
        Image.new("RGB", size, "black").save(tmp_path / f"00-{place}.png")
    dark = np.asarray(_block(tmp_path, 0).convert("L")) < 128
    side = BLOCK_PIXELS // 2
    quarters = (dark[:side, :side], dark[:side, side:], dark[side:, :side])
    for quarter, (width, height) in zip(quarters, sizes, strict=True):
        shown = (int(quarter.any(0).sum()), int(quarter.any(1).sum()))
        assert max(shown) == side - 2
        assert abs(shown[0] / shown[1] - width / height) < 0.05 * width / height
        # In the middle of its place.
        first, last = np.flatnonzero(quarter.any(0))[[0, -1]]
        assert abs(first - (side - 3 - last)) <= 1
    assert not dark[side:, side:].any()

"""What the tests of rewards on another machine share."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from adrpo.errors import AdrpoError


def images(count: int) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return [Image.fromarray(array) for array in pixels]


def refusal(reward: Any, **samples: Any) -> str:
    """The one line that ``reward`` refuses the samples with."""
    with pytest.raises(AdrpoError) as caught:
        reward(**samples)
    assert "\n" not in str(caught.value)
    return str(caught.value)

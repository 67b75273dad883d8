"""Training batches of the embedded models, drawn on the fly from the scenes world."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from adrpo.embedded.rendering import MIXED_STYLES, render
from adrpo.embedded.scenes import Scene


def pictures(
    scenes: Sequence[Scene],
    rng: np.random.Generator,
    *,
    open_styles: tuple[float, ...] = MIXED_STYLES,
) -> Tensor:
    """``scenes`` drawn as one tensor [batch, 3, 64, 64] with values in [-1, 1]."""
    stack = np.stack([np.asarray(render(scene, rng, open_styles=open_styles)) for scene in scenes])
    return torch.from_numpy(stack).permute(0, 3, 1, 2).float() / 127.5 - 1.0

"""The ring of ``mixture.py`` as a model that the trainers of adrpo take for a text-to-image one.

Its latents are points of the plane, its adapter is the small network beside the exact velocity, and
an image of a point holds the point itself: three pixels, whose first eight bytes are x and y in
float32. So every trainer runs here as it is, images that lie in files included.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mixture
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from adrpo.config import SamplingSection
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.path.samplers import SOLVERS

BYTES = 8


class RingPolicy:
    """A :class:`~adrpo.flow.models.protocol.FlowPolicy` of points; every prompt is the same."""

    latent_shape = (2,)
    device = torch.device("cpu")
    height, width = 1, 3

    def __init__(self) -> None:
        self.network = mixture.Policy()
        self.on = True
        self.model_calls = 0
        # Trainers that look whether a start or a compiled part is there find none.
        self.start = None

    def encode(
        self, prompts: Sequence[str], negative_prompts: Sequence[str | None] = ()
    ) -> Conditioning:
        return Conditioning(pooled=torch.zeros(len(prompts), 1))

    def velocity(
        self, x_t: Tensor, t: Tensor, conditioning: Conditioning, *, guidance_scale: float = 1.0
    ) -> Tensor:
        self.model_calls += len(x_t)
        return self.network(x_t, t) if self.on else mixture.base_velocity(x_t, t)

    @torch.no_grad()
    def sample(self, x_0: Tensor, conditioning: Conditioning, sampling: SamplingSection) -> Tensor:
        def velocity(x: Tensor, t: Tensor) -> Tensor:
            return self.velocity(x, t.expand(len(x)), conditioning)

        return SOLVERS[sampling.solver](velocity, x_0, self.time_grid(sampling.steps))

    def shape_of(self, height: int | None, width: int | None) -> tuple[int, ...]:
        return self.latent_shape

    def time_grid(self, steps: int, shape: tuple[int, ...] | None = None) -> Tensor:
        return torch.linspace(0, 1, steps + 1)

    def decode(self, x_1: Tensor) -> list[Image.Image | None]:
        rows = x_1.detach().numpy().astype("<f4")
        return [
            Image.frombytes("RGB", (self.width, self.height), row.tobytes() + b"\0")
            if np.isfinite(row).all()
            else None
            for row in rows
        ]

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor:
        return torch.stack([point(image) for image in images])

    @contextmanager
    def reference(self) -> Iterator[None]:
        before, self.on = self.on, False
        try:
            yield
        finally:
            self.on = before

    def add_adapter(self, adapter: Any) -> None:
        """Do nothing: the adapter is there from the start, and is 0."""

    def adapter_parameters(self) -> list[nn.Parameter]:
        return list(self.network.change.parameters())

    def adapter_state(self) -> dict[str, Tensor]:
        return self.network.change.state_dict()

    def load_adapter_state(self, state: dict[str, Tensor]) -> None:
        self.network.change.load_state_dict(state)

    def same_adapter(self, folder: Path) -> bool:
        raise NotImplementedError

    def save_adapter(self, folder: Path) -> None:
        raise NotImplementedError


def point(image: Image.Image) -> Tensor:
    """The point [2] that an image of ``RingPolicy.decode`` holds."""
    return torch.from_numpy(np.frombuffer(image.tobytes()[:BYTES], dtype="<f4").copy())


def x_coordinate(
    prompts: Sequence[str], images: Sequence[Image.Image], **_: Any
) -> list[float | None]:
    """The reward of ``mixture.py``."""
    return [float(point(image)[0]) for image in images]

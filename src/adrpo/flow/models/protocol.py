"""A model as those who use it see it: one that draws images, and one that can be trained as well.

Nothing here knows an implementation. ``pipeline_policy.py`` and its families make a policy of a
pipeline of diffusers; ``pipeline_sampler.py`` draws with any pipeline.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from PIL import Image
from torch import Tensor, nn

from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.originals import Original

if TYPE_CHECKING:
    from adrpo.config import SamplingSection


class Draws(Protocol):
    """A model that draws: prompts to ``encode``, x_1 to ``sample`` from noise, images to
    ``decode``, and a ``reference``, the same model with its adapter off.

    ``decode`` gives None in the place of an image whose pixels are not all finite.
    """

    @property
    def latent_shape(self) -> tuple[int, ...]: ...

    def shape_of(self, height: int | None, width: int | None) -> tuple[int, ...]:
        """``latent_shape`` of images of another size in pixels, None the model's own."""
        ...

    @property
    def device(self) -> torch.device: ...

    def encode(
        self,
        prompts: Sequence[str],
        negative_prompts: Sequence[str | None] = (),
        originals: Sequence[Original | None] = (),
    ) -> Conditioning: ...

    def sample(
        self, x_0: Tensor, conditioning: Conditioning, sampling: "SamplingSection"
    ) -> Tensor: ...

    def decode(self, x_1: Tensor) -> list[Image.Image | None]: ...

    def reference(self) -> AbstractContextManager[None]: ...


@runtime_checkable
class FlowPolicy(Draws, Protocol):
    """A model that draws and can be trained: it has a velocity at (x_t, t), and an adapter.

    Times and velocities are the paper's (flow/path/convention.py). ``isinstance`` tells it from
    a model that only draws.
    """

    model_calls: int
    """Number of samples x network evaluations so far; guidance counts twice."""

    height: int
    """Height in pixels of the images of prompts that name none."""

    width: int
    """Width in pixels of the images of prompts that name none."""

    def velocity(
        self, x_t: Tensor, t: Tensor, conditioning: Conditioning, *, guidance_scale: float = 1.0
    ) -> Tensor: ...

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor: ...

    def time_grid(self, steps: int, shape: tuple[int, ...] | None = None) -> Tensor: ...

    def adapter_parameters(self) -> list[nn.Parameter]: ...

    def adapter_state(self) -> dict[str, Tensor]: ...

    def load_adapter_state(self, state: dict[str, Tensor]) -> None: ...

    def same_adapter(self, folder: Path) -> bool: ...

    def save_adapter(self, folder: Path) -> None: ...

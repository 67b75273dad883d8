"""The policy as the trainers see it: a model behind five verbs.

``encode`` prompts, ``sample`` x_1 from noise, ``velocity`` at (x_t, t), ``decode`` x_1 to images,
and ``reference``: the same model with its adapter off. What implements them for diffusers'
pipelines is ``pipeline_policy.py``, with a class for each family in ``families/``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.families.stable_diffusion_3 import StableDiffusion3Policy
from adrpo.flow.models.lora import ADAPTER, WEIGHTS_NAME
from adrpo.flow.models.pipeline_policy import PipelinePolicy

if TYPE_CHECKING:
    from adrpo.config import SamplingSection

__all__ = [
    "ADAPTER",
    "WEIGHTS_NAME",
    "Conditioning",
    "FlowPolicy",
    "PipelinePolicy",
    "StableDiffusion3Policy",
]


class FlowPolicy(Protocol):
    """What the trainer needs of a model. Times and velocities are the paper's
    (flow/path/convention.py)."""

    model_calls: int
    """Samples x network evaluations so far; guidance counts twice."""

    height: int
    width: int
    """Of its images, in pixels."""

    @property
    def latent_shape(self) -> tuple[int, ...]: ...

    @property
    def device(self) -> torch.device: ...

    def encode(self, prompts: Sequence[str]) -> Conditioning: ...

    def velocity(
        self, x_t: Tensor, t: Tensor, conditioning: Conditioning, *, guidance_scale: float = 1.0
    ) -> Tensor: ...

    def sample(
        self, x_0: Tensor, conditioning: Conditioning, sampling: "SamplingSection"
    ) -> Tensor: ...

    def decode(self, x_1: Tensor) -> list[Image.Image]: ...

    def encode_images(self, images: Sequence[Image.Image]) -> Tensor: ...

    def time_grid(self, steps: int) -> Tensor: ...

    def reference(self) -> Any: ...

    def adapter_parameters(self) -> list[nn.Parameter]: ...

    def adapter_state(self) -> dict[str, Tensor]: ...

    def load_adapter_state(self, state: dict[str, Tensor]) -> None: ...

    def save_adapter(self, folder: Path) -> None: ...

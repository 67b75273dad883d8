"""Features of images by a vision model of transformers, for distances between sets of images."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from adrpo.data.pictures import read_picture
from adrpo.errors import AdrpoError, reading
from adrpo.rewards.image import ANOTHER, batches, load_image_processor, resolve_model
from adrpo.runs.model_folder import NO_CODE

KEY = "evaluation.distances.features"
WHAT = "vision"


class ImageFeatures:
    """Features of images: what a vision model pools of a whole one, not normalized.

    Of a CLIP, or another model with ``get_image_features``, they are the image embedding; of
    others, such as DINOv2, ``pooler_output``, there the class token after the last norm, which is
    what FD-DINOv2 takes (Stein et al., arXiv 2306.04675). Images are resized and normalized by the
    model's own processor, by Pillow.

    Args:
        model: "embedded" or "embedded-evaluation" (CLIPs that the package carries), a folder, or a
            Hub id of a class of transformers; weights are read from safetensors alone.
        device: where it runs, in float32.
        batch_size: images per forward pass; a memory knob.

    Raises:
        AdrpoError: there is no such model, it lacks weights, or takes no images.
    """

    def __init__(
        self, model: str | Path, device: str | torch.device = "cpu", batch_size: int = 64
    ) -> None:
        self.name = str(model)
        source = resolve_model(self.name, WHAT)
        self._model = _load(source)
        self._processor = load_image_processor(source, WHAT)
        self._model.to(device).eval().requires_grad_(False)
        self.device = torch.device(device)
        self.batch_size = batch_size

    def of(self, images: Sequence[Image]) -> Float[Tensor, "n d"]:
        """The features of ``images``, float32, on the CPU.

        Raises AdrpoError for a model that pools nothing.
        """
        return self._features(images, lambda image: image)

    def of_files(self, files: Sequence[Path]) -> Float[Tensor, "n d"]:
        """The features of the pictures in ``files``, of which one batch is in memory at once.

        Raises AdrpoError, naming the file, where one holds no picture.
        """
        return self._features(files, read_picture)

    @torch.inference_mode()
    def _features(self, items: Sequence[Any], read: Callable[[Any], Image]) -> Tensor:
        found = [self._pooled(map(read, batch)) for batch in batches(items, self.batch_size)]
        return torch.cat(found)

    def _pooled(self, images: Iterable[Image]) -> Tensor:
        rgb = [image.convert("RGB") for image in images]
        pixels = self._processor(images=rgb, return_tensors="pt")["pixel_values"].to(self.device)
        embed = getattr(self._model, "get_image_features", self._model)
        pooled = embed(pixel_values=pixels).pooler_output
        if pooled is None:
            raise AdrpoError(
                f"{KEY}: expected a model that pools an image into one vector; received "
                f"{self.name}, a {type(self._model).__name__}, which does not; name another one, "
                f"such as facebook/dinov2-base"
            )
        return pooled.flatten(1).float().cpu()


def _load(source: str) -> Any:
    from transformers import AutoModel

    with reading(f"{KEY}: expected a vision model, received {source!r}", ANOTHER):
        model, info = AutoModel.from_pretrained(
            source, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **NO_CODE
        )
    if not hasattr(model, "get_image_features") and model.main_input_name != "pixel_values":
        raise AdrpoError(
            f"{KEY}: expected a model of images; received {source!r}, a {type(model).__name__}, "
            f"which reads {model.main_input_name}; name another one, such as facebook/dinov2-base"
        )
    if info["missing_keys"]:
        raise AdrpoError(
            f"{KEY}: expected a complete {type(model).__name__} in {source!r}; its weights lack "
            f"{len(info['missing_keys'])} tensors, {min(info['missing_keys'])!r} among them; name "
            f"another model"
        )
    return model

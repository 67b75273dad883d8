"""Objects in an image: what a detector gives, and Mask2Former as one."""

import importlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor
from torch.nn.functional import interpolate

from adrpo.errors import AdrpoError, reading
from adrpo.rewards.image import WEIGHT_FILES
from adrpo.runs.model_folder import NO_CODE

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels: x to the right, y down, right and bottom exclusive."""

Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True, eq=False)
class Detection:
    """One object: its class, the detector's confidence in [0, 1], its box, and its pixels.

    ``mask`` is [height, width] of the whole image, True on the object, or None where the detector
    gives boxes only.
    """

    label: str
    score: float
    box: Box
    mask: NDArray[np.bool_] | None = None


class Detector(Protocol):
    """Any callable that finds objects: one list of detections an image, in any order.

    Where it has an attribute ``labels``, these are all the classes that it can find.
    """

    def __call__(self, images: list[Image]) -> list[list[Detection]]: ...


def load_detector(source: str | Path, device: str | torch.device) -> Detector:
    """The detector that ``source`` names.

    Args:
        source: a folder or Hub id ("owner/name") for :class:`Mask2Former`, or a dotted path,
            "package.module:callable" or "package.module.callable". A class is called without
            arguments, or with ``device`` where it takes one, and the instance is the detector.
        device: where the model runs.

    Raises:
        AdrpoError: the source leads nowhere, or the model can't be loaded.
    """
    name = str(source)
    if "/" in name or Path(name).is_dir():
        return Mask2Former(source, device)
    module, _, attribute = name.replace(":", ".").rpartition(".")
    try:
        target: Any = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise AdrpoError(
            "expected a detector: a dotted path 'package.module:callable', a folder or a Hub id "
            f"('owner/name'), received {name!r} ({error}); put its folder on PYTHONPATH, or "
            "correct the option 'detector'"
        ) from error
    if not callable(target):
        raise AdrpoError(
            f"expected a detector: a function or a class, received {type(target).__name__} at "
            f"{name!r}; correct the option 'detector'"
        )
    if isinstance(target, type):
        takes_device = "device" in inspect.signature(target).parameters
        return target(device=device) if takes_device else target()
    return cast(Detector, target)


class Mask2Former:
    """Instance segmentation by Mask2Former (Cheng et al., arXiv 2112.01527).

    A detection is one query with one class. Its mask is where the query's mask logit, resized to
    the image, is positive; its box the tight box of the mask, without merging or suppression; and

        score = p(class | query) * mean of sigmoid(logit) over the mask.

    At most as many detections as the model has queries, those of the greatest p(class | query).

    Images are resized so that the shorter side is ``shortest_edge`` and the longer at most
    ``longest_edge``, each side rounded up to a multiple of 32; 800 and 1333 are the sizes at which
    the model is tested by its authors and by mmdetection. The published processors would squeeze
    every image to 384 x 384, where small objects are lost.

    Args:
        model: a folder or Hub id with the model and its image processor, of transformers'
            Mask2FormerForUniversalSegmentation, trained for instances; its ``id2label`` names the
            classes.
        device: where the model runs, in float32.
        batch_size: images of one size per forward pass; a memory knob.
        threshold: detections are kept where score > threshold.
        shortest_edge, longest_edge: in pixels.

    Raises:
        AdrpoError: there is no such model, or it is incomplete or of another architecture.
    """

    def __init__(
        self,
        model: str | Path,
        device: str | torch.device = "cpu",
        batch_size: int = 4,
        threshold: float = 0.3,
        shortest_edge: int = 800,
        longest_edge: int = 1333,
    ) -> None:
        source = _resolve(str(model))
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.threshold = threshold
        self._edges = {"shortest_edge": shortest_edge, "longest_edge": longest_edge}
        self._model, self._processor = _load(source)
        self._model.to(self.device).eval().requires_grad_(False)
        names = self._model.config.id2label
        self.labels = tuple(names[index] for index in range(len(names)))

    @torch.inference_mode()
    def __call__(self, images: list[Image]) -> list[list[Detection]]:
        """The detections in each image."""
        found: list[list[Detection]] = []
        # Images of one size need no padding, which the model would take for a part of them.
        for _, group in groupby(images, key=lambda image: image.size):
            same = list(group)
            for start in range(0, len(same), self.batch_size):
                found += self._detect(same[start : start + self.batch_size])
        return found

    def _detect(self, images: Sequence[Image]) -> list[list[Detection]]:
        pixels = self._processor(
            images=[image.convert("RGB") for image in images],
            size=self._edges,
            return_tensors="pt",
        )["pixel_values"]
        output = self._model(pixels.to(self.device))
        seen = tuple(pixels.shape[-2:])
        size = (images[0].height, images[0].width)
        return [
            self._read(classes, masks, seen, size)
            for classes, masks in zip(
                output.class_queries_logits, output.masks_queries_logits, strict=True
            )
        ]

    def _read(self, classes: Tensor, masks: Tensor, seen: Size, size: Size) -> list[Detection]:
        """Detections of one image from its logits, [queries, labels + 1] and [queries, h, w].

        Raises ValueError where they are no numbers, of which none is above a threshold: the image
        would be one without objects.
        """
        if classes.isnan().any() or masks.isnan().any():
            raise ValueError("the detector's logits of an image are not finite")
        # The last class stands for no object.
        probabilities = classes.softmax(dim=-1)[:, :-1]
        best = probabilities.flatten().topk(len(classes))
        # A mean of probabilities is at most 1: no other pair can reach the threshold.
        likely = best.values > self.threshold
        if not likely.any():
            return []
        pairs = best.indices[likely]
        queries, labels = pairs // len(self.labels), pairs % len(self.labels)
        logits = masks[queries][None]
        for target in (seen, size):
            logits = interpolate(logits, size=target, mode="bilinear", align_corners=False)
        logits = logits[0]
        inside = logits > 0
        area = inside.sum(dim=(1, 2))
        confidence = (logits.sigmoid() * inside).sum(dim=(1, 2)) / area.clamp(min=1)
        scores = (best.values[likely] * confidence).tolist()
        kept = zip(labels.tolist(), scores, inside.cpu().numpy(), strict=True)
        return [
            Detection(self.labels[label], score, _tight_box(mask), mask)
            for label, score, mask in kept
            # An empty mask has the score 0.
            if score > self.threshold
        ]


def _tight_box(mask: NDArray[np.bool_]) -> Box:
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _resolve(model: str) -> str:
    """A folder that holds a model, or a Hub id."""
    folder = Path(model).expanduser()
    if not folder.exists():
        if folder.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1:
            raise AdrpoError(
                "expected a folder or a Hub id ('owner/name') for the detector, received "
                f"{model!r}: there is no such folder"
            )
        return model
    if not any((folder / name).is_file() for name in WEIGHT_FILES):
        raise AdrpoError(
            f"expected a Mask2Former with weights ({WEIGHT_FILES[0]}) in folder {str(folder)!r}, "
            "found none: save it there with save_pretrained, or name another folder"
        )
    return str(folder)


def _load(source: str) -> tuple[Any, Any]:
    """Model and image processor."""
    from transformers import AutoImageProcessor

    with reading(f"expected a detector, received {source!r}", "download it again, or name another"):
        loaded: Any = _inference_class().from_pretrained(
            source, dtype=torch.float32, output_loading_info=True
        )
        # Resizing differs between backends; Pillow's is everywhere and the detections then agree.
        processor = AutoImageProcessor.from_pretrained(source, backend="pil", **NO_CODE)
    model, info = loaded
    # Buffers that a checkpoint lacks are computed, not learned.
    missing = {name for name, _ in model.named_parameters()} & set(info["missing_keys"])
    if missing:
        raise AdrpoError(
            f"expected a complete Mask2Former in {source!r}, but its weights lack {len(missing)} "
            f"tensors, {min(missing)!r} among them: name a model of the architecture "
            "Mask2FormerForUniversalSegmentation"
        )
    return model, processor


def _inference_class() -> Any:
    """transformers' model without the loss, whose matching of masks needs scipy."""
    from transformers import (
        Mask2FormerForUniversalSegmentation,
        Mask2FormerModel,
        Mask2FormerPreTrainedModel,
    )

    class Mask2FormerForInference(Mask2FormerForUniversalSegmentation):
        _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"criterion\."]

        def __init__(self, config: Any) -> None:
            Mask2FormerPreTrainedModel.__init__(self, config)
            self.model = Mask2FormerModel(config)
            self.class_predictor = torch.nn.Linear(config.hidden_dim, config.num_labels + 1)
            self.post_init()

    return Mask2FormerForInference

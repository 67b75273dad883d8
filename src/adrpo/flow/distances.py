"""Distances of evaluated images from a set of references: a folder's, a world's, the base's."""

import warnings
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import numpy as np
import torch
from torch import Tensor

from adrpo.data.base import Prompt
from adrpo.data.pictures import digest_of, pictures_in
from adrpo.embedded.rendering import SOLID, render
from adrpo.embedded.scenes import Scene, parse_caption
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.evaluation.distance_values import LEAST, frechet_values, kernel_values, mean_kernel
from adrpo.evaluation.image_features import ImageFeatures
from adrpo.evaluation.values import Values

if TYPE_CHECKING:
    from adrpo.config import DistancesSection, FlowConfig, FlowEvaluationSection
    from adrpo.flow.drawing import DrawnImages
    from adrpo.runs.processes import Processes, Share

KEY = "evaluation.distances.references"
SCENES = "scenes"
"""References that the scenes world's renderer draws."""

TO_REFERENCES = ("frechet_distance", "kernel_distance")
FROM_BASE = ("frechet_drift", "kernel_drift")


def is_folder(references: str | None) -> TypeGuard[str]:
    """True where ``evaluation.distances.references`` names a folder."""
    return references is not None and references != SCENES


class References:
    """The network and the references that all splits of a run have in common.

    Args:
        settings: ``evaluation.distances``.
        device: of the network.
        batch_size: images at once; a memory knob.
        processes: that share the pictures of a folder.

    Raises:
        AdrpoError: the folder has no pictures, or as :class:`ImageFeatures`.
    """

    def __init__(
        self,
        settings: "DistancesSection",
        device: torch.device,
        *,
        batch_size: int,
        processes: "Processes",
    ) -> None:
        self.source = settings.references
        self.files: list[Path] | None = None
        self.digest: str | None = None
        if is_folder(self.source):
            self.files = pictures_in(Path(self.source).expanduser(), KEY)
            self.digest = digest_of(self.files)
        self.network = ImageFeatures(settings.features, device, batch_size)
        self._processes = processes

    @cached_property
    def of_pictures(self) -> Tensor:
        """Features [pictures, d] of a folder's; every process reads a part of them."""
        assert self.files is not None, "asked only of a folder"
        own = self.files[self._processes.rank :: self._processes.count]
        parts = self._processes.gather(self.network.of_files(own) if own else torch.empty(0))
        return torch.cat([part for part in parts if len(part)])

    @cached_property
    def among(self) -> float:
        """Mean kernel among a folder's pictures."""
        return mean_kernel(self.of_pictures)


def references_of(
    config: "FlowConfig", device: torch.device, processes: "Processes"
) -> References | None:
    """The references of the settings ``config``; None where no distance is measured."""
    settings = config.evaluation
    if settings.distances is None:
        return None
    return References(
        settings.distances, device, batch_size=settings.batch_size, processes=processes
    )


class ImageDistances:
    """Two distances between all images of a split and their references, a value a prompt
    (:mod:`adrpo.evaluation.distance_values`).

    ``prompts`` are those of the share, of which ``base`` draws what the frozen base draws.

    Raises AdrpoError where the references are scenes, and a prompt is no caption of one.
    """

    def __init__(
        self,
        references: References,
        settings: "FlowEvaluationSection",
        prompts: Sequence[Prompt],
        share: "Share",
        processes: "Processes",
        base: "Callable[[], DrawnImages]",
    ) -> None:
        self.references = references
        self.names = FROM_BASE if references.source is None else TO_REFERENCES
        self._each, self._seed = settings.samples_per_prompt, settings.seed
        self._prompts, self._share, self._processes = prompts, share, processes
        self._base = base
        self._told = False
        if references.source == SCENES:
            for prompt in prompts:
                _scene(prompt)

    def measure(self, drawn: "DrawnImages") -> Values:
        """The values [prompts] of the share's prompts, of images of all processes."""
        features, references = self._whole(self._features(drawn)), self._theirs
        if features.shape[-1] == 1:  # no image at all
            features = features.expand(*features.shape[:2], references.shape[-1])
        self._tell_of_few(features, references)
        among = None if self.references.files is None else self.references.among
        both = (
            frechet_values(features, references),
            kernel_values(features, references, among=among),
        )
        own = slice(self._share.start, self._share.stop)
        return {name: values[own] for name, values in zip(self.names, both, strict=True)}

    @cached_property
    def _theirs(self) -> Tensor:
        """Features of the references, of all processes."""
        if self.references.files is not None:
            return self.references.of_pictures
        if self.references.source is None:
            return self._whole(self._features(self._base()))
        numbers = range(self._share.start, self._share.stop)
        rngs = [np.random.default_rng((self._seed, number)) for number in numbers]
        images = [
            render(_scene(prompt), rng, open_styles=SOLID)
            for prompt, rng in zip(self._prompts, rngs, strict=True)
            for _ in range(self._each)
        ]
        features = self.references.network.of(images)
        return self._whole(features.view(len(rngs), self._each, -1))

    def _features(self, drawn: "DrawnImages") -> Tensor:
        """Features [prompts, K, d] of the share's images."""
        rows = drawn.measured(lambda _, images: self.references.network.of(images))
        return rows.reshape(len(self._share), self._each, -1)

    def _whole(self, share: Tensor) -> Tensor:
        parts = self._processes.gather(share)
        # A share without a single image does not know the number of features.
        width = max(part.shape[-1] for part in parts)
        return torch.cat([part.expand(*part.shape[:2], width) for part in parts])

    def _tell_of_few(self, features: Tensor, references: Tensor) -> None:
        """Warn, once, where there are too few prompts, or a covariance is singular."""
        width = features.shape[-1]
        counts = [part[..., 0].numel() for part in (features, references)]
        if len(features) < LEAST:
            fault = f"of {len(features)} prompts there is no {' and no '.join(self.names)}; take "
            fault += f"at least {LEAST}"
        elif min(counts) <= width:
            fault = (
                f"{counts[0]} images and {counts[1]} references have {width} features each. Of so "
                f"few a covariance is singular, and {self.names[0]} is far above what more images "
                f"would give: compare it between equal numbers of images only. {self.names[1]} is "
                f"unbiased"
            )
        else:
            return
        if self._processes.is_main and not self._told:
            self._told = True
            warnings.warn(f"evaluation.distances: {fault}", AdrpoWarning, stacklevel=2)


def _scene(prompt: Prompt) -> Scene:
    try:
        return parse_caption(prompt.text)
    except ValueError:
        raise AdrpoError(
            f"{KEY}: expected captions of the scenes world with {SCENES}; received the prompt "
            f"{prompt.text!r}; name a folder of pictures, or null"
        ) from None

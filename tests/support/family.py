"""A family of pipelines in tests: how to build a minute one, and how to call it."""

import json
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.loading import SUPPORTED, as_policy
from adrpo.flow.models.pipeline_policy import PipelinePolicy
from adrpo.flow.originals import Original


@dataclass(frozen=True)
class Family:
    """A family: how to build its pipeline, and how its call takes what the policy takes."""

    build: Callable[[], Any]
    guidance: Callable[[float, int], dict[str, Any]]
    """(w, number of prompts) -> arguments of the pipeline's call."""

    height: int = 16
    width: int = 24
    tokens: int | None = 32
    options: dict[str, Any] = field(default_factory=dict)
    """What else the pipeline's call needs to be the policy's."""
    in_words: bool = True
    """Whether its call takes negative prompts in words, and not by their embeddings."""
    edits: bool = False
    """Whether its prompts come with originals: ``original_of`` gives one for each prompt."""
    around: Callable[[], AbstractContextManager[None]] = nullcontext
    """What its pipeline and its policy are to be used in."""

    @property
    def sizes(self) -> dict[str, Any]:
        """The same under the names of section ``model``, and of the policy's arguments."""
        return {"height": self.height, "width": self.width, "max_sequence_length": self.tokens}

    def policy(self, dtype: torch.dtype = torch.float32) -> PipelinePolicy:
        """The policy of a fresh pipeline, without an adapter."""
        pipeline = self.build().to(dtype)
        pipeline.set_progress_bar_config(disable=True)
        return as_policy(pipeline, **self.sizes)

    def encode(
        self, policy: PipelinePolicy, prompts: Sequence[str], negative: Sequence[str | None] = ()
    ) -> Conditioning:
        """The policy's conditioning of ``prompts``, each with its original where there is one."""
        if not self.edits:
            return policy.encode(prompts, negative)
        originals = [Original(original_of(prompt), None, None) for prompt in prompts]
        return policy.encode(prompts, negative, originals)

    def prompts(self, folder: Path) -> dict[str, Any]:
        """Section ``prompts`` of two prompts to train on and two others, files in ``folder``."""
        if not self.edits:
            return {"train_size": 2, "held_out_size": 2}
        return {
            kind: edit_file(folder / f"{kind}.jsonl", [f"make it {kind} {n}" for n in range(2)])
            for kind in ("train", "held_out")
        }

    def call(
        self,
        pipeline: Any,
        prompts: list[str],
        scale: float,
        *,
        originals: Sequence[str] = (),
        **arguments: Any,
    ) -> Any:
        """The pipeline's own result for ``prompts`` with guidance ``scale``; ``originals`` name
        those of ``original_of`` where they are not the prompts'."""
        if "num_frames" in self.options and "latents" in arguments:
            arguments["latents"] = arguments["latents"][:, :, None]
        if "max_area" in self.options:
            arguments["max_area"] = self.height * self.width
        if self.edits:
            # In the size that they are read in already: the call scales a list of them otherwise.
            kind: Any = SUPPORTED[type(pipeline).__name__]
            height, width = kind.original_size(self.height, self.width)
            arguments["image"] = [
                original_of(name).resize((width, height), Image.Resampling.LANCZOS)
                for name in originals or prompts
            ]
        found = pipeline(
            prompt=list(prompts),
            **self.sizes | self.guidance(scale, len(prompts)) | self.options | arguments,
        )
        if not hasattr(found, "frames"):
            return found.images
        # Videos of one frame, or their latents.
        return (
            found.frames if torch.is_tensor(found.frames) else [frame for (frame,) in found.frames]
        )


def plain(scale: float, count: int) -> dict[str, Any]:
    return {"guidance_scale": scale}


def original_of(prompt: str, width: int = 30, height: int = 19) -> Image.Image:
    """A picture of coloured noise that belongs to ``prompt``."""
    draws = np.random.default_rng(zlib.crc32(prompt.encode()))
    return Image.fromarray(draws.integers(0, 256, (height, width, 3), dtype=np.uint8))


def edit_file(path: Path, prompts: Sequence[str], **columns: Any) -> str:
    """The path of a file of ``prompts``, whose originals are written beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, prompt in enumerate(prompts):
        name = f"{path.stem}-{number}.png"
        original_of(prompt).save(path.parent / name)
        lines.append({"prompt": prompt, "image": name} | {k: v[number] for k, v in columns.items()})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)

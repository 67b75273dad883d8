"""The pictures of a run, ready to stand in the page: data URIs, grouped by prompt."""

import base64
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from adrpo.errors import AdrpoError

LARGEST_SIDE = 384
"""Larger pictures are scaled down, so that a run of 1024-pixel pictures still fits a page."""

PIXELATED_SIDE = 160
"""Pictures up to this side are magnified as crisp pixels."""


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, and what it shows."""

    uri: str
    alt: str
    pixelated: bool


@dataclass(frozen=True)
class HeldOut:
    """Pictures of one prompt; ``base[i]`` and ``final[i]`` stem from the same noise."""

    prompt: str
    category: str
    base: list[Picture]
    final: list[Picture]

    @property
    def columns(self) -> int:
        """Columns of a square-ish block."""
        count = max(len(self.base), len(self.final))
        return next(side for side in range(1, count + 2) if side * side >= count)


@dataclass(frozen=True)
class Strip:
    """Fixed prompts over time: ``rows`` pairs a prompt with one picture (or None) a step."""

    steps: list[int]
    rows: list[tuple[str, list[Picture | None]]]


def read_prompts(samples: Path) -> dict[str, Any]:
    """``prompts.json`` of a run; empty lists where the run has not written it yet."""
    path = samples / "prompts.json"
    if not path.exists():
        return {"strip": [], "held_out": []}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        strip = [str(prompt) for prompt in found["strip"]]
        held_out = [(str(item["prompt"]), str(item["category"])) for item in found["held_out"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AdrpoError(
            f"expected the keys 'strip' and 'held_out' of a run's prompts; received "
            f"{type(error).__name__}: {error} in {path}; delete the file to report without pictures"
        ) from None
    return {"strip": strip, "held_out": held_out}


def held_out_pictures(samples: Path, prompts: list[tuple[str, str]]) -> list[HeldOut]:
    """The held-out prompts that have pictures, of the base or of the fine-tuned model."""
    groups = []
    for index, (prompt, category) in enumerate(prompts):
        base = _numbered(samples / "base", index)
        final = _numbered(samples / "final", index)
        # Side by side only what stems from the same noise.
        shared = sorted(base.keys() & final.keys()) if base and final else None
        group = HeldOut(
            prompt=prompt,
            category=category,
            base=_pictures(base, shared, f"base model: {prompt}"),
            final=_pictures(final, shared, f"fine-tuned model: {prompt}"),
        )
        if group.base or group.final:
            groups.append(group)
    return groups


def strip_pictures(samples: Path, prompts: list[str]) -> Strip:
    """The fixed prompts at every evaluation that left pictures."""
    folders = {
        int(match.group(1)): path
        for path in samples.glob("step-*")
        if (match := re.fullmatch(r"step-(\d+)", path.name))
    }
    steps = sorted(step for step, path in folders.items() if any(path.glob("strip-*.png")))
    rows: list[tuple[str, list[Picture | None]]] = []
    for index, prompt in enumerate(prompts):
        row = []
        for step in steps:
            path = folders[step] / f"strip-{index:02d}.png"
            row.append(embed(path, f"step {step}: {prompt}") if path.exists() else None)
        if any(row):
            rows.append((prompt, row))
    return Strip(steps, rows)


def embed(path: Path, alt: str) -> Picture:
    """A picture file as a PNG data URI."""
    try:
        data = path.read_bytes()
        image = Image.open(io.BytesIO(data))
        image.load()
    except OSError as error:
        raise AdrpoError(
            f"expected a complete picture; received {len(path.read_bytes())} bytes that do not "
            f"decode ({error}) in {path}; delete the file to report without it"
        ) from None
    side = max(image.size)
    if side > LARGEST_SIDE or image.format != "PNG":
        image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        image.convert("RGB").save(stream, format="PNG", optimize=True)
        data = stream.getvalue()
    uri = "data:image/png;base64," + base64.b64encode(data).decode("ascii")
    return Picture(uri, alt, pixelated=side <= PIXELATED_SIDE)


def _numbered(folder: Path, prompt: int) -> dict[int, Path]:
    """Picture files of one prompt by sample index."""
    return {
        int(match.group(2)): path
        for path in folder.glob(f"*{prompt}-*.png")
        if (match := re.fullmatch(r"(\d+)-(\d+)", path.stem)) and int(match.group(1)) == prompt
    }


def _pictures(files: dict[int, Path], kept: list[int] | None, alt: str) -> list[Picture]:
    return [embed(files[index], alt) for index in (sorted(files) if kept is None else kept)]

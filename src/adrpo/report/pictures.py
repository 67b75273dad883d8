"""The pictures of a run, ready to stand in the page: data URIs, grouped by prompt."""

import base64
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from adrpo.errors import AdrpoError
from adrpo.report.scores import NO_SCORE, NO_SCORES, Score, Scores, read_scores

LARGEST_SIDE = 384
"""Larger pictures are scaled down, so that a run of 1024-pixel pictures still fits a page."""

PIXELATED_SIDE = 160
"""Pictures up to this side are magnified as crisp pixels."""


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, what it shows, and its score."""

    uri: str
    alt: str
    pixelated: bool
    score: Score = NO_SCORE


@dataclass(frozen=True)
class HeldOut:
    """Pictures of one prompt; ``base[i]`` and ``final[i]`` stem from the same noise, and are edits
    of the ``original``, if there is one."""

    prompt: str
    category: str
    base: list[Picture]
    final: list[Picture]
    original: Picture | None = None

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


def held_out_pictures(
    samples: Path,
    prompts: list[tuple[str, str]],
    base_scores: Scores = NO_SCORES,
    final_scores: Scores = NO_SCORES,
) -> list[HeldOut]:
    """The held-out prompts that have pictures, of the base or of the fine-tuned model, with their
    scores."""
    groups = []
    for index, (prompt, category) in enumerate(prompts):
        base = _numbered(samples / "base", index)
        final = _numbered(samples / "final", index)
        # Side by side only what stems from the same noise.
        shared = sorted(base.keys() & final.keys()) if base and final else None
        original = samples / "originals" / f"{index:02d}.png"
        group = HeldOut(
            prompt=prompt,
            category=category,
            base=[
                embed(base[k], f"base model: {prompt}", base_scores.of(index, k))
                for k in (sorted(base) if shared is None else shared)
            ],
            final=[
                embed(final[k], f"fine-tuned model: {prompt}", final_scores.of(index, k))
                for k in (sorted(final) if shared is None else shared)
            ],
            original=embed(original, f"original: {prompt}") if original.exists() else None,
        )
        if group.base or group.final:
            groups.append(group)
    return groups


def strip_pictures(samples: Path, prompts: list[str], wanted: Sequence[str] = ()) -> Strip:
    """The fixed prompts at every evaluation that left pictures, with their scores: those of the
    metrics ``wanted``."""
    folders = {
        int(match.group(1)): path
        for path in samples.glob("step-*")
        if (match := re.fullmatch(r"step-(\d+)", path.name))
    }
    steps = sorted(step for step, path in folders.items() if any(path.glob("strip-*.png")))
    scores = {step: read_scores(samples, step, wanted) for step in steps}
    rows: list[tuple[str, list[Picture | None]]] = []
    for index, prompt in enumerate(prompts):
        row = []
        for step in steps:
            path = folders[step] / f"strip-{index:02d}.png"
            score = scores[step].of(index, 0)
            row.append(embed(path, f"step {step}: {prompt}", score) if path.exists() else None)
        if any(row):
            rows.append((prompt, row))
    return Strip(steps, rows)


def embed(path: Path, alt: str, score: Score = NO_SCORE) -> Picture:
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
    return Picture(uri, alt, side <= PIXELATED_SIDE, score)


def _numbered(folder: Path, prompt: int) -> dict[int, Path]:
    """Picture files of one prompt by sample index."""
    return {
        int(match.group(2)): path
        for path in folder.glob(f"*{prompt}-*.png")
        if (match := re.fullmatch(r"(\d+)-(\d+)", path.stem)) and int(match.group(1)) == prompt
    }

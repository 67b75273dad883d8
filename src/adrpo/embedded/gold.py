"""The gold scorer: reads the pixels and says whether an image satisfies a caption.

No part of it is learned and none of it is seen by a reward model. The picture is split into
ground and connected objects; each object's color is the nearest palette color of its strongest
pixels, its shape the template of highest overlap with its filled silhouette, its style the
closest of that shape's drawn styles. Text is compared with templates of every letter and word.
Whatever can't be told apart with confidence is wrong, so a blurred or half-drawn object fails.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from adrpo.embedded.rendering import SUPERSAMPLING, outline, styled_mask, text_mask
from adrpo.embedded.scenes import (
    COLORS,
    LETTERS,
    SHAPES,
    WORDS,
    Scene,
    SceneObject,
    parse_caption,
)


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Limits of the judge: what counts as ink, and how sure a reading must be to be one."""

    ink_distance: float = 55.0
    """RGB distance from the ground at which a pixel counts as ink. The palest color (yellow) lies
    160 from the ground, so 55 is a third of the way through its anti-aliased border."""
    min_area: int = 12
    """Inked components smaller than this many pixels are specks."""
    max_specks: int = 12
    """More inked pixels than this outside the objects make the picture wrong."""
    color_tolerance: float = 75.0
    """Median RGB distance to the nearest palette color above which a color is none."""
    min_shape_overlap: float = 0.74
    min_text_overlap: float = 0.62
    max_style_error: float = 0.25


GOLD = Thresholds()
"""The limits of the verdict that is reported as ``gold_accuracy``."""

STRICT = Thresholds(
    ink_distance=45.0,
    max_specks=6,
    color_tolerance=50.0,
    min_shape_overlap=0.8,
    min_text_overlap=0.7,
    max_style_error=0.18,
)
"""Narrower limits: a policy that learns where those of :data:`GOLD` lie, and draws what just passes
them, is found out by these. Of the renderer's own pictures they take almost all."""

MOST_OBJECTS = 6
"""Objects that are looked at where a picture has more; a scene has four at most."""

Mask = NDArray[np.bool_]
Coverage = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One object as read from the pixels; None where it can't be told."""

    color: str | None
    shape: str | None
    style: str | None
    x: float
    y: float


def _components(mask: Mask, *, diagonal: bool) -> tuple[NDArray[Any], int]:
    """Label connected pixels (4- or 8-connected) from 1 on; 0 is outside ``mask``."""
    labelled: Any = ndimage.label(mask, structure=np.ones((3, 3)) if diagonal else None)
    return labelled


def _fill_holes(mask: Mask) -> Mask:
    padded = np.pad(~mask, 1, constant_values=True)
    labels, _ = _components(padded, diagonal=False)
    return ~(labels == labels[0, 0])[1:-1, 1:-1]


@cache
def _shape_template(shape: str, height: int, width: int) -> Mask:
    scale = 4
    image = Image.new("L", (width * scale, height * scale), 0)
    points = [
        ((x + 1) / 2 * (width * scale - 1), (y + 1) / 2 * (height * scale - 1))
        for x, y in outline(shape)
    ]
    ImageDraw.Draw(image).polygon(points, fill=255)
    small = image.resize((width, height), Image.Resampling.BOX)
    return np.asarray(small) >= 128


def _overlap(a: Mask, b: Mask) -> float:
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 0.0


def _read_shape(silhouette: Mask, limits: Thresholds) -> str | None:
    height, width = silhouette.shape
    if not 0.75 <= height / width <= 1.34:
        return None
    overlaps = {s: _overlap(silhouette, _shape_template(s, height, width)) for s in SHAPES}
    best = max(overlaps, key=lambda shape: overlaps[shape])
    return best if overlaps[best] >= limits.min_shape_overlap else None


@cache
def _style_templates(shape: str, height: int, width: int) -> tuple[tuple[str, Coverage], ...]:
    """Coverage of ``shape`` in each style; stripes in both directions and ten phases."""
    diameter = max(height, width) * SUPERSAMPLING
    half = diameter / 2
    variants = [("solid", False, 0.0), ("outlined", False, 0.0)]
    variants += [("striped", v, p / 10) for v in (False, True) for p in range(10)]
    templates = []
    for style, vertical, phase in variants:
        mask = styled_mask(
            shape,
            style,
            diameter=diameter,
            canvas=diameter,
            center=(half, half),
            vertical=vertical,
            phase=phase,
        )
        small = mask.resize((width, height), Image.Resampling.BOX)
        templates.append((style, np.asarray(small, dtype=np.float64) / 255))
    return tuple(templates)


def _read_style(coverage: Coverage, shape: str | None, limits: Thresholds) -> str | None:
    """The style whose template differs least from the coverage, if that is little enough."""
    if shape is None:
        return None
    errors = [
        (float(np.abs(coverage - template).mean()), style)
        for style, template in _style_templates(shape, *coverage.shape)
    ]
    error, style = min(errors)
    return style if error <= limits.max_style_error else None


def _read_color(
    pixels: NDArray[np.float64], distance: NDArray[np.float64], limits: Thresholds
) -> str | None:
    """Nearest palette color of the third of the pixels that lie farthest from the ground."""
    strong = pixels[distance >= np.quantile(distance, 0.7)]
    palette = np.asarray(list(COLORS.values()), dtype=np.float64)
    offsets = np.linalg.norm(strong[:, None, :] - palette[None], axis=-1)
    votes = np.bincount(offsets.argmin(axis=1), minlength=len(palette))
    winner = int(votes.argmax())
    pure = votes[winner] >= 0.75 * len(strong)
    near = np.median(offsets[:, winner]) <= limits.color_tolerance
    return list(COLORS)[winner] if pure and near else None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """An image split into objects; ``ink`` and ``distance`` are [64, 64]."""

    rgb: NDArray[np.float64]
    distance: NDArray[np.float64]
    ink: Mask
    objects: tuple[Seen, ...]
    clean: bool
    limits: Thresholds


def read_objects(image: Image.Image, limits: Thresholds = GOLD) -> Reading:
    """Split ``image`` into ground, objects and specks."""
    rgb = np.asarray(image.convert("RGB"), dtype=np.float64)
    border = np.concatenate([rgb[:2].reshape(-1, 3), rgb[-2:].reshape(-1, 3)])
    ground = np.median(border, axis=0)
    distance = np.linalg.norm(rgb - ground, axis=-1)
    ink = distance > limits.ink_distance
    labels, found = _components(ink, diagonal=True)
    objects, specks = [], 0
    for label in range(1, found + 1):
        part = labels == label
        area = int(part.sum())
        if area < limits.min_area:
            specks += area
            continue
        rows, columns = np.nonzero(part)
        box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        shape = _read_shape(_fill_holes(part[box]), limits)
        full = np.quantile(distance[part], 0.8)
        # A ring may hold another component inside; only this component's ink is its own.
        coverage = np.where(part[box], np.clip(distance[box] / full, 0, 1), 0)
        objects.append(
            Seen(
                color=_read_color(rgb[part], distance[part], limits),
                shape=shape,
                style=_read_style(coverage, shape, limits),
                x=(columns.min() + columns.max()) / 2,
                y=(rows.min() + rows.max()) / 2,
            )
        )
    # The ground of every scene is light; a dark or colored one means the picture broke.
    clean = specks <= limits.max_specks and bool(ground.min() >= 190)
    return Reading(
        rgb=rgb, distance=distance, ink=ink, objects=tuple(objects), clean=clean, limits=limits
    )


@cache
def _text_template(text: str, height: int, width: int) -> Mask:
    mask = text_mask(text, 160).resize((width, height), Image.Resampling.BOX)
    return np.asarray(mask) >= 128


@cache
def _text_aspect(text: str) -> float:
    mask = text_mask(text, 160)
    return mask.height / mask.width


def read_text(ink: Mask, limits: Thresholds = GOLD) -> str | None:
    """The letter or word whose template overlaps best with the inked pixels."""
    if not ink.any():
        return None
    rows, columns = np.nonzero(ink)
    crop = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    height, width = crop.shape
    best, best_overlap = None, limits.min_text_overlap
    for text in (*LETTERS, *WORDS):
        if 0.72 <= (height / width) / _text_aspect(text) <= 1.4:
            overlap = _overlap(crop, _text_template(text, height, width))
            if overlap > best_overlap:
                best, best_overlap = text, overlap
    return best


def _in_relation(first: Seen, second: Seen, relation: str | None) -> bool:
    dx, dy = second.x - first.x, second.y - first.y
    match relation:
        case None:
            return True
        case "left of":
            return dx > abs(dy)
        case "right of":
            return -dx > abs(dy)
        case "above":
            return dy > abs(dx)
        case "below":
            return -dy > abs(dx)
    raise ValueError(f"unknown relation {relation!r}")


def requirements(scene: Scene) -> tuple[str, ...]:
    """The requirements of a picture of ``scene`` by name, each once: the verdict is that all hold.

    A picture of anything: "clean" (a light ground without specks) and "not empty". Of objects:
    their "count", then of each the color, the shape and, where the caption names one, the style;
    then their "relation". Of a text: its color and its letters.

    >>> from adrpo.embedded.scenes import parse_caption
    >>> requirements(parse_caption("two blue stars"))[2:]
    ('count', 'color of 1', 'shape of 1', 'color of 2', 'shape of 2')
    """
    if scene.text is not None:
        return ("clean", "not empty", "color", "text")
    attributes = [
        f"{name} of {place}"
        for place, wanted in enumerate(scene.objects * scene.count, start=1)
        for name in ("color", "shape", "style")
        if getattr(wanted, name) is not None
    ]
    relation = () if scene.relation is None else ("relation",)
    return ("clean", "not empty", "count", *attributes, *relation)


def _object_checks(seen: Seen | None, wanted: SceneObject) -> list[bool]:
    """Checks of color, shape and, where the caption names one, style: True where as wanted."""
    if seen is None:
        return [False] * (2 if wanted.style is None else 3)
    checks = [seen.color == wanted.color, seen.shape == wanted.shape]
    return checks if wanted.style is None else [*checks, seen.style == wanted.style]


def _scene_checks(reading: Reading, scene: Scene) -> list[list[bool]]:
    """The :func:`requirements` of ``scene``, for each way to tell the objects seen from one
    another."""
    general = [reading.clean, bool(reading.objects)]
    if scene.text is not None:
        color = text = None
        if reading.ink.any():
            inked = reading.rgb[reading.ink], reading.distance[reading.ink]
            color = _read_color(*inked, reading.limits)
            text = read_text(reading.ink, reading.limits)
        return [[*general, color == scene.objects[0].color, text == scene.text]]
    wanted = scene.objects * scene.count
    general.append(len(reading.objects) == len(wanted))
    seen: list[Seen | None] = [*reading.objects[:MOST_OBJECTS]]
    seen += [None] * (len(wanted) - len(seen))
    ways = []
    for chosen in permutations(seen, len(wanted)):
        checks = [c for s, w in zip(chosen, wanted, strict=True) for c in _object_checks(s, w)]
        if scene.relation is not None:
            first, second = chosen
            checks.append(
                first is not None
                and second is not None
                and _in_relation(first, second, scene.relation)
            )
        ways.append([*general, *checks])
    return ways


def requirements_met(
    image: Image.Image, scene: Scene, limits: Thresholds = GOLD
) -> dict[str, bool]:
    """Each of the :func:`requirements` of ``scene`` -> whether ``image`` meets it.

    Objects are told apart in the way that meets most, the first of equal ones.
    """
    best = max(_scene_checks(read_objects(image, limits), scene), key=sum)
    return dict(zip(requirements(scene), best, strict=True))


def satisfied_share(image: Image.Image, scene: Scene, limits: Thresholds = GOLD) -> float:
    """Share of the :func:`requirements` of ``scene`` that ``image`` meets, in [0, 1]; 1 exactly
    where it :func:`satisfies` it."""
    met = requirements_met(image, scene, limits).values()
    return sum(met) / len(met)


def satisfies(image: Image.Image, scene: Scene, limits: Thresholds = GOLD) -> bool:
    """True where ``image`` shows exactly what ``scene`` describes, and nothing else."""
    return all(requirements_met(image, scene, limits).values())


def gold_scores(prompts: Sequence[str], images: Sequence[Image.Image]) -> list[float]:
    """1.0 where an image satisfies its caption, else 0.0.

    Raises ValueError where a prompt is not a caption of the scenes world.
    """
    return [
        float(satisfies(image, parse_caption(prompt)))
        for prompt, image in zip(prompts, images, strict=True)
    ]

"""Draws scenes: 64x64 RGB pictures on a light ground, anti-aliased by supersampling."""

import math
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from adrpo.embedded.scenes import COLORS, STYLES, Scene

SIZE = 64
SUPERSAMPLING = 4
MARGIN = 3
GAP = 4
"""Pixels left free at the border, and between two objects."""

_SIZES = {1: (20, 36), 2: (16, 24), 3: (14, 20), 4: (14, 19), 5: (12, 16)}
"""Range of an object's diameter in pixels, by the number of objects."""

MIXED_STYLES = (0.6, 0.2, 0.2)
SOLID = (1.0, 0.0, 0.0)
"""Shares of solid, outlined and striped objects where the caption leaves the style open: mixed for
models that must know them all (autoencoder, CLIP), solid for the base model's training data."""

Point = tuple[float, float]


@cache
def outline(shape: str) -> tuple[Point, ...]:
    """Polygon of a shape, scaled to fill the square [-1, 1] x [-1, 1] (y points down)."""
    match shape:
        case "circle":
            angles = np.linspace(0, 2 * math.pi, 72, endpoint=False)
            points = [(math.cos(a), math.sin(a)) for a in angles]
        case "square":
            points = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
        case "triangle":
            points = [(0, -1), (1, 1), (-1, 1)]
        case "diamond":
            points = [(0, -1), (1, 0), (0, 1), (-1, 0)]
        case "cross":
            a = 0.36
            points = [(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a),
                      (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a), (-a, -a)]  # fmt: skip
        case "star":
            points = []
            for i in range(10):
                radius = 1.0 if i % 2 == 0 else 0.45
                angle = -math.pi / 2 + i * math.pi / 5
                points.append((radius * math.cos(angle), radius * math.sin(angle)))
        case _:
            raise ValueError(f"unknown shape {shape!r}")
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    scaled = 2 * (np.asarray(points) - low) / (high - low) - 1
    return tuple((float(x), float(y)) for x, y in scaled)


@cache
def font(pixels: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans Bold, which matplotlib carries, so that every machine draws the same glyphs."""
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
    return ImageFont.truetype(str(path), pixels)


def _polygon_mask(shape: str, diameter: float, canvas: int, center: Point) -> Image.Image:
    mask = Image.new("L", (canvas, canvas), 0)
    x, y = center
    points = [(x + px * diameter / 2, y + py * diameter / 2) for px, py in outline(shape)]
    ImageDraw.Draw(mask).polygon(points, fill=255)
    return mask


def _stroke(shape: str, diameter: float, canvas: int, center: Point, width: float) -> Image.Image:
    """The part of the shape within ``width`` of its border."""
    mask = Image.new("L", (canvas, canvas), 0)
    x, y = center
    points = [(x + px * diameter / 2, y + py * diameter / 2) for px, py in outline(shape)]
    closed = [*points, points[0], points[1]]
    # Twice the width, centered on the border: the outer half is cut off by the silhouette.
    ImageDraw.Draw(mask).line(closed, fill=255, width=round(2 * width), joint="curve")
    silhouette = np.asarray(_polygon_mask(shape, diameter, canvas, center))
    return Image.fromarray(np.minimum(np.asarray(mask), silhouette))


def styled_mask(
    shape: str,
    style: str,
    *,
    diameter: float,
    canvas: int,
    center: Point,
    vertical: bool = False,
    phase: float = 0.0,
) -> Image.Image:
    """Coverage of one object on a square canvas, in supersampled pixels.

    ``vertical`` and ``phase`` (in periods) matter for stripes only.
    """
    silhouette = _polygon_mask(shape, diameter, canvas, center)
    if style == "solid":
        return silhouette
    scale = SUPERSAMPLING
    if style == "outlined":
        return _stroke(shape, diameter, canvas, center, max(2.2 * scale, 0.11 * diameter))
    border = np.asarray(_stroke(shape, diameter, canvas, center, 1.4 * scale))
    period = 5.0 * scale
    position = np.arange(canvas) - center[0 if vertical else 1]
    bars = (np.mod(position + period * (0.25 + phase), period) < period / 2) * np.uint8(255)
    stripes = np.broadcast_to(bars[None, :] if vertical else bars[:, None], (canvas, canvas))
    return Image.fromarray(np.maximum(border, np.minimum(stripes, np.asarray(silhouette))))


def text_mask(text: str, pixels: int) -> Image.Image:
    """``text`` drawn in white on black, cropped to its ink. Single letters are upper case."""
    drawn = text.upper() if len(text) == 1 else text
    left, top, right, bottom = font(pixels).getbbox(drawn)
    image = Image.new("L", (math.ceil(right - left) + 2, math.ceil(bottom - top) + 2), 0)
    ImageDraw.Draw(image).text((1 - left, 1 - top), drawn, fill=255, font=font(pixels))
    return image.crop(image.getbbox())


def _relation_holds(relation: str | None, first: Point, second: Point) -> bool:
    if relation is None:
        return True
    dx, dy = second[0] - first[0], second[1] - first[1]
    if relation in ("left of", "right of"):
        return abs(dx) > 1.3 * abs(dy) and (dx > 0) == (relation == "left of")
    return abs(dy) > 1.3 * abs(dx) and (dy > 0) == (relation == "above")


def _layout(
    rng: np.random.Generator, diameters: list[float], relation: str | None
) -> list[Point] | None:
    """Centers without overlap that satisfy ``relation``; None where this try found none."""
    centers: list[Point] = []
    for diameter in diameters:
        low, high = MARGIN + diameter / 2, SIZE - MARGIN - diameter / 2
        for _ in range(40):
            x, y = (float(v) for v in rng.uniform(low, high, size=2))
            far = all(
                max(abs(x - cx), abs(y - cy)) >= (diameter + other) / 2 + GAP
                for (cx, cy), other in zip(centers, diameters, strict=False)
            )
            if far and (not centers or _relation_holds(relation, centers[0], (x, y))):
                centers.append((x, y))
                break
        else:
            return None
    return centers


def _place_text(rng: np.random.Generator, text: str, canvas: Image.Image) -> None:
    pixels = int(rng.integers(30, 47)) if len(text) == 1 else int(rng.integers(18, 25))
    mask = text_mask(text, pixels * SUPERSAMPLING)
    limit = (SIZE - 2 * MARGIN) * SUPERSAMPLING
    if mask.width > limit:
        mask = mask.resize((limit, round(mask.height * limit / mask.width)))
    margin = MARGIN * SUPERSAMPLING
    x = int(rng.integers(margin, canvas.width - margin - mask.width + 1))
    y = int(rng.integers(margin, canvas.height - margin - mask.height + 1))
    canvas.paste(mask, (x, y))


def render(
    scene: Scene, rng: np.random.Generator, *, open_styles: tuple[float, ...] = MIXED_STYLES
) -> Image.Image:
    """Draw ``scene`` as a 64x64 RGB picture.

    Position, size, ground color, stripe direction, small shifts of color, and the fill style
    where the caption leaves it open (weights ``open_styles``), are drawn from ``rng``.
    """
    ground = rng.uniform(222, 252) + rng.uniform(-6, 6, size=3)
    image = np.broadcast_to(ground, (SIZE, SIZE, 3)).copy()
    canvas = SIZE * SUPERSAMPLING
    items = scene.objects * scene.count
    if scene.text is not None:
        layers = [Image.new("L", (canvas, canvas), 0)]
        _place_text(rng, scene.text, layers[0])
    else:
        centers = None
        while centers is None:
            low, high = _SIZES[len(items)]
            diameters = [float(d) for d in rng.uniform(low, high, size=len(items))]
            centers = _layout(rng, diameters, scene.relation)
        layers = []
        for item, diameter, (x, y) in zip(items, diameters, centers, strict=True):
            style = item.style or str(rng.choice(STYLES, p=open_styles))
            scaled = (x * SUPERSAMPLING, y * SUPERSAMPLING)
            vertical = bool(rng.random() < 0.5)
            layers.append(
                styled_mask(
                    item.shape,
                    style,
                    diameter=diameter * SUPERSAMPLING,
                    canvas=canvas,
                    center=scaled,
                    vertical=vertical,
                )
            )
    for item, layer in zip(items, layers, strict=True):
        alpha = np.asarray(layer.resize((SIZE, SIZE), Image.Resampling.BOX)) / 255.0
        color = np.asarray(COLORS[item.color]) + rng.uniform(-8, 8, size=3)
        image += alpha[..., None] * (color - image)
    return Image.fromarray(np.clip(np.rint(image), 0, 255).astype(np.uint8))

"""Pictures that do not deserve their caption: what a reward model must learn to mark down.

A generator under training fails in typical ways: an attribute of the wrong object, an object
too many, two shapes or colors melted into one, a part left undrawn, wobbly borders. Each
function here makes such a picture from a scene; none of them asks the gold scorer.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from adrpo.embedded.rendering import SIZE, render
from adrpo.embedded.scenes import Scene, hard_negatives, sample_scene

Pixels = NDArray[np.uint8]


def draw(scene: Scene, seed: int) -> Pixels:
    """``scene`` drawn from a generator of its own, so that a scene one attribute away, drawn
    with the same seed, keeps the layout."""
    return np.asarray(render(scene, np.random.default_rng(seed)))


def _smooth_field(rng: np.random.Generator, cells: int) -> NDArray[np.float64]:
    """A smooth random field [64, 64] with values around 0."""
    coarse = rng.normal(size=(cells, cells)).astype(np.float32)
    grown = Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.asarray(grown, dtype=np.float64)


def wrong_scene(scene: Scene, seed: int, rng: np.random.Generator) -> Pixels:
    """A scene one attribute away, in the same layout where that is possible."""
    candidates = hard_negatives(scene)
    return draw(candidates[rng.integers(len(candidates))], seed)


def melted(scene: Scene, seed: int, rng: np.random.Generator) -> Pixels:
    """Part of the picture is that of a scene one attribute away, with a soft border between."""
    other = wrong_scene(scene, seed, rng).astype(np.float64)
    own = draw(scene, seed).astype(np.float64)
    if rng.random() < 0.3:
        share = np.full((SIZE, SIZE), rng.uniform(0.35, 0.65))
    else:
        field = _smooth_field(rng, 4) * rng.uniform(2, 6)
        share = 1 / (1 + np.exp(-field))
    return np.rint(own + share[..., None] * (other - own)).astype(np.uint8)


def erased(scene: Scene, seed: int, rng: np.random.Generator) -> Pixels:
    """Some of the ink fades into the ground."""
    own = draw(scene, seed).astype(np.float64)
    ground = np.median(own[:2].reshape(-1, 3), axis=0)
    ink = np.linalg.norm(own - ground, axis=-1) > 55
    rows, columns = np.nonzero(ink)
    pick = int(rng.integers(len(rows)))
    y, x = np.mgrid[:SIZE, :SIZE]
    radius = rng.uniform(5, 10)
    distance = np.hypot(y - rows[pick], x - columns[pick])
    keep = 1 / (1 + np.exp(-(distance - radius) * rng.uniform(0.5, 3)))
    return np.rint(ground + keep[..., None] * (own - ground)).astype(np.uint8)


def crowded(scene: Scene, seed: int, rng: np.random.Generator) -> Pixels:
    """The ink of a second, unrelated scene on top (at times half transparent)."""
    own = draw(scene, seed).astype(np.float64)
    other = draw(sample_scene(rng, "color"), int(rng.integers(2**31))).astype(np.float64)
    ground = np.median(other[:2].reshape(-1, 3), axis=0)
    alpha = np.clip(np.linalg.norm(other - ground, axis=-1) / 150, 0, 1) * rng.uniform(0.5, 1)
    return np.rint(own + alpha[..., None] * (other - own)).astype(np.uint8)


def warped(scene: Scene, seed: int, rng: np.random.Generator) -> Pixels:
    """Shapes bent by a smooth displacement of several pixels."""
    own = draw(scene, seed)
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    strength = rng.uniform(1.2, 2.8)
    v = np.clip(np.rint(y + strength * _smooth_field(rng, 9)), 0, SIZE - 1).astype(int)
    u = np.clip(np.rint(x + strength * _smooth_field(rng, 9)), 0, SIZE - 1).astype(int)
    bent = Image.fromarray(own[v, u]).filter(ImageFilter.GaussianBlur(0.7))
    return np.asarray(bent)


def blurred(scene: Scene, seed: int, rng: np.random.Generator) -> Pixels:
    """Hardly more than the colors and places are left."""
    image = Image.fromarray(draw(scene, seed))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(2.5, 5))))


def missing(scene: Scene, seed: int, rng: np.random.Generator) -> Pixels:
    """One of two objects only, or a count one off."""
    if len(scene.objects) == 2:
        kept = scene.objects[rng.integers(2)]
        return draw(replace(scene, objects=(kept,), relation=None), seed)
    if scene.count > 1:
        return draw(replace(scene, count=scene.count + int(rng.choice([-1, 1]))), seed)
    return erased(scene, seed, rng)


CORRUPTIONS: tuple[Callable[[Scene, int, np.random.Generator], Pixels], ...] = (
    wrong_scene,
    melted,
    melted,
    erased,
    crowded,
    warped,
    blurred,
    missing,
)


def corrupt(scene: Scene, seed: int, rng: np.random.Generator) -> Pixels:
    """A picture of ``scene`` (drawn with ``seed``) spoilt in one randomly chosen way."""
    return CORRUPTIONS[rng.integers(len(CORRUPTIONS))](scene, seed, rng)

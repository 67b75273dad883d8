"""The scenes world: what a caption says, how captions are drawn, and which split has them.

A :class:`Scene` is the meaning of a caption: one to four objects with color, shape and (where
the caption names it) fill style, a spatial relation of two of them, or a letter or word.
:func:`sample_scene` draws one, :func:`caption` words it, :func:`parse_caption` reads it back;
``parse_caption(caption(s)) == s`` for every scene. :mod:`adrpo.embedded.rendering` draws
scenes, :mod:`adrpo.embedded.gold` judges images against them.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Literal

import numpy as np

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "orange": (247, 140, 20),
    "yellow": (240, 220, 40),
    "green": (40, 160, 60),
    "cyan": (60, 205, 220),
    "blue": (40, 70, 205),
    "purple": (140, 50, 180),
    "black": (25, 25, 25),
}
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "star")
STYLES = ("solid", "outlined", "striped")
RELATIONS = ("left of", "right of", "above", "below")
COUNTS = {"two": 2, "three": 3, "four": 4}
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
WORDS = (
    "cat", "dog", "sun", "hat", "car", "bus", "cup", "map",
    "key", "box", "fox", "pie", "ink", "owl", "zoo", "jam",
)  # fmt: skip

CATEGORIES = ("color", "style", "counting", "position", "binding", "text")
"""Categories of prompts. Counterparts in DrawBench: Colors (color, binding), Counting,
Positional, Text, Descriptions (style)."""

HELD_OUT_FRACTION = 0.2

Split = Literal["train", "held_out", "test"]

LOOKED_AT = ((102, 1234), (120, 99), (120, 1))
"""Size and seed of each held-out prompt set in view of which something was chosen.

They are the evaluations of the recipes (smaller ones of that seed begin alike), the 120 prompts of
the benchmarks of base and rewards, and those by which the base itself was measured in training.
"""

TEST_CATEGORIES = ("position", "binding", "text")
"""Categories with held-out combinations that no set of ``LOOKED_AT`` has. Color and counting have
none left, and style a single one, which stays with the held-out ones."""


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """One object. ``style`` is None where the caption leaves it open."""

    color: str
    shape: str
    style: str | None = None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The meaning of one caption.

    ``objects`` lists one object for the categories color, style and counting (``count`` copies
    of it), two for position and binding (in the caption's order), and for text one whose shape
    is "text".
    """

    category: str
    objects: tuple[SceneObject, ...]
    count: int = 1
    relation: str | None = None
    text: str | None = None


def _color(rng: np.random.Generator) -> str:
    return str(rng.choice(list(COLORS)))


def _object(rng: np.random.Generator, style: str | None = None) -> SceneObject:
    return SceneObject(color=_color(rng), shape=str(rng.choice(SHAPES)), style=style)


def _pair(rng: np.random.Generator, styled: bool) -> tuple[SceneObject, SceneObject]:
    """Two objects that differ in color and in shape, so that swapping an attribute matters."""
    colors = rng.choice(list(COLORS), size=2, replace=False)
    shapes = rng.choice(SHAPES, size=2, replace=False)
    styles = rng.choice(STYLES, size=2, replace=False) if styled else (None, None)
    first, second = (
        SceneObject(color=str(c), shape=str(s), style=None if f is None else str(f))
        for c, s, f in zip(colors, shapes, styles, strict=True)
    )
    return first, second


def sample_scene(rng: np.random.Generator, category: str | None = None) -> Scene:
    """Draw a scene; ``category`` is uniform over :data:`CATEGORIES` unless given."""
    category = category or str(rng.choice(CATEGORIES))
    match category:
        case "color":
            return Scene(category=category, objects=(_object(rng),))
        case "style":
            return Scene(category=category, objects=(_object(rng, str(rng.choice(STYLES))),))
        case "counting":
            count = int(rng.choice(list(COUNTS.values())))
            return Scene(category=category, objects=(_object(rng),), count=count)
        case "position":
            relation = str(rng.choice(RELATIONS))
            return Scene(category=category, objects=_pair(rng, styled=False), relation=relation)
        case "binding":
            return Scene(category=category, objects=_pair(rng, styled=bool(rng.random() < 0.4)))
        case "text":
            text = str(rng.choice(WORDS) if rng.random() < 0.5 else rng.choice(LETTERS))
            sign = SceneObject(color=_color(rng), shape="text")
            return Scene(category=category, objects=(sign,), text=text)
    raise ValueError(f"category must be one of {', '.join(CATEGORIES)}; received {category!r}")


def _noun_phrase(item: SceneObject) -> str:
    words = " ".join(word for word in (item.style, item.color, item.shape) if word)
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _plural(shape: str) -> str:
    return shape + ("es" if shape == "cross" else "s")


def caption(scene: Scene) -> str:
    """The caption of ``scene``, lower case, at most nine words."""
    first = scene.objects[0]
    if scene.text is not None:
        kind = "letter" if len(scene.text) == 1 else "word"
        return f"the {kind} {scene.text} in {first.color}"
    if scene.count > 1:
        number = next(word for word, n in COUNTS.items() if n == scene.count)
        return f"{number} {first.color} {_plural(first.shape)}"
    if len(scene.objects) == 1:
        return _noun_phrase(first)
    joint = scene.relation or "and"
    return f"{_noun_phrase(first)} {joint} {_noun_phrase(scene.objects[1])}"


_SINGULAR = {_plural(shape): shape for shape in SHAPES}


def _parse_object(words: list[str]) -> SceneObject:
    article, *rest = words
    style = rest.pop(0) if rest and rest[0] in STYLES else None
    color, shape = rest
    if article not in ("a", "an") or color not in COLORS or shape not in SHAPES:
        raise ValueError
    return SceneObject(color=color, shape=shape, style=style)


def _parse(text: str) -> Scene:
    words = text.split()
    if words[0] == "the":
        _, kind, drawn, _in, color = words
        if drawn not in {"letter": LETTERS, "word": WORDS}[kind] or _in != "in":
            raise ValueError
        sign = SceneObject(color={c: c for c in COLORS}[color], shape="text")
        return Scene(category="text", objects=(sign,), text=drawn)
    if words[0] in COUNTS:
        number, color, plural = words
        item = SceneObject(color={c: c for c in COLORS}[color], shape=_SINGULAR[plural])
        return Scene(category="counting", objects=(item,), count=COUNTS[number])
    for joint in ("and", *RELATIONS):
        left, found, right = text.partition(f" {joint} ")
        if found:
            pair = (_parse_object(left.split()), _parse_object(right.split()))
            if joint == "and":
                return Scene(category="binding", objects=pair)
            return Scene(category="position", objects=pair, relation=joint)
    item = _parse_object(words)
    return Scene(category="color" if item.style is None else "style", objects=(item,))


def parse_caption(text: str) -> Scene:
    """The scene that ``text`` describes; the inverse of :func:`caption`.

    Raises ValueError where ``text`` is not a caption of the scenes world.
    """
    try:
        return _parse(" ".join(text.lower().split()))
    except (ValueError, KeyError, IndexError):
        raise ValueError(
            f"expected a caption of the scenes world such as 'a red circle left of a blue "
            f"square'; received {text!r}"
        ) from None


def _combination(scene: Scene) -> str:
    """The things composed, whatever their order and relation: the unit of the split."""
    items = sorted(f"{item.color} {item.shape} {item.style}" for item in scene.objects)
    return "|".join((*items, str(scene.count), scene.text or ""))


def split_of(scene: Scene) -> Split:
    """The split that has the scene's combination: "train", "held_out" or "test".

    The split is by combination: a pair of objects that is kept from training is never seen there
    in any order or relation, a (color, shape, count) never at that count, a word never in that
    color. A fifth of all combinations is kept. Choices were made in view of some of these
    (``LOOKED_AT``), which stay "held_out"; the others, of ``TEST_CATEGORIES``, are "test".
    """
    if not _is_kept(scene):
        return "train"
    fresh = scene.category in TEST_CATEGORIES and _combination(scene) not in _looked_at()
    return "test" if fresh else "held_out"


def _is_kept(scene: Scene) -> bool:
    """True where training never sees the scene's combination."""
    digest = hashlib.sha256(_combination(scene).encode()).digest()
    return digest[0] < 256 * HELD_OUT_FRACTION


@cache
def _looked_at() -> frozenset[str]:
    """The combinations of the sets ``LOOKED_AT``, as they were drawn before there was a test."""
    sets = (_different_scenes(size, seed, CATEGORIES, _is_kept) for size, seed in LOOKED_AT)
    return frozenset(_combination(scene) for scenes in sets for scene in scenes)


def sample_split(rng: np.random.Generator, *, split: Split, category: str | None = None) -> Scene:
    """Draw a scene of one split, by rejection.

    Raises ValueError where the split has none of the category.
    """
    if split == "test" and category not in (None, *TEST_CATEGORIES):
        raise ValueError(
            f"expected a category of the test split, {', '.join(TEST_CATEGORIES)}; received "
            f"{category!r}"
        )
    return _accepted(rng, category, lambda scene: split_of(scene) == split)


def prompt_set(size: int, *, split: Split, seed: int) -> list[Scene]:
    """``size`` scenes of one split with different captions, the categories in turn.

    A category with few combinations runs dry (nine or so single colored shapes are held out);
    the others then make up the number. The test split has those of ``TEST_CATEGORIES`` alone.

    Raises ValueError where the split has fewer.
    """
    categories = TEST_CATEGORIES if split == "test" else CATEGORIES
    return _different_scenes(size, seed, categories, lambda scene: split_of(scene) == split)


def _accepted(
    rng: np.random.Generator, category: str | None, belongs: Callable[[Scene], bool]
) -> Scene:
    while True:
        scene = sample_scene(rng, category)
        if belongs(scene):
            return scene


def _different_scenes(
    size: int, seed: int, categories: Sequence[str], belongs: Callable[[Scene], bool]
) -> list[Scene]:
    rng = np.random.default_rng(seed)
    scenes: dict[str, Scene] = {}
    open_categories = list(categories)
    while len(scenes) < size and open_categories:
        for category in list(open_categories):
            new = _unseen_scene(rng, belongs, category, scenes)
            if new is None:
                open_categories.remove(category)
            elif len(scenes) < size:
                scenes[caption(new)] = new
    if len(scenes) < size:
        raise ValueError(f"expected at most {len(scenes)} prompts; received size {size}")
    return list(scenes.values())


def _unseen_scene(
    rng: np.random.Generator,
    belongs: Callable[[Scene], bool],
    category: str,
    seen: dict[str, Scene],
) -> Scene | None:
    """A scene whose caption is not in ``seen``; None where 300 draws found none."""
    for _ in range(300):
        scene = _accepted(rng, category, belongs)
        if caption(scene) not in seen:
            return scene
    return None


def hard_negatives(scene: Scene) -> list[Scene]:
    """Every scene one attribute away: swapped colors or shapes, another count, relation, style,
    color, shape or text. An image that satisfies ``scene`` satisfies none of them."""
    return [*_other_wholes(scene), *_other_attributes(scene), *_swaps(scene)]


def _other_wholes(scene: Scene) -> list[Scene]:
    """Another text, count or relation."""
    texts: tuple[str, ...] = ()
    if scene.text is not None:
        texts = LETTERS if len(scene.text) == 1 else WORDS
    counts = COUNTS.values() if scene.count > 1 else ()
    relations = RELATIONS if scene.relation is not None else ()
    return [
        *(replace(scene, text=text) for text in texts if text != scene.text),
        *(replace(scene, count=count) for count in counts if count != scene.count),
        *(replace(scene, relation=name) for name in relations if name != scene.relation),
    ]


def _other_attributes(scene: Scene) -> list[Scene]:
    """One object with another color, shape or (where it is named) style, which no object has."""
    choices = {"color": tuple(COLORS), "shape": SHAPES, "style": STYLES}
    result = []
    for index, field in product(range(len(scene.objects)), choices):
        item = scene.objects[index]
        if getattr(item, field) in (None, "text"):
            continue
        taken = {getattr(other, field) for other in scene.objects}
        for value in choices[field]:
            if value not in taken:
                objects = list(scene.objects)
                objects[index] = replace(item, **{field: value})
                result.append(replace(scene, objects=tuple(objects)))
    return result


def _swaps(scene: Scene) -> list[Scene]:
    """Two objects that exchange a color, shape or style."""
    if len(scene.objects) != 2:
        return []
    first, second = scene.objects
    result = []
    for field in ("color", "shape", "style"):
        one, other = getattr(first, field), getattr(second, field)
        if one != other:
            objects = (replace(first, **{field: other}), replace(second, **{field: one}))
            result.append(replace(scene, objects=objects))
    return result

"""Three splits of the scenes: trained on, chosen by, and looked at by nobody before the end."""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from itertools import permutations, product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from adrpo.embedded.scenes import (
    CATEGORIES,
    COLORS,
    COUNTS,
    LETTERS,
    LOOKED_AT,
    RELATIONS,
    SHAPES,
    STYLES,
    TEST_CATEGORIES,
    WORDS,
    Scene,
    SceneObject,
    Split,
    caption,
    parse_caption,
    prompt_set,
    sample_split,
    split_of,
)
from adrpo.flow.drawing import PICTURED_PROMPTS
from adrpo.runs.spread import spread

RESULTS = Path(__file__).parents[3] / "benchmarks/results"
SPLITS: tuple[Split, ...] = get_args(Split)

RECORDED = {
    (102, 1234): "4c39d715e301d201",
    (120, 99): "2fc861b67a628641",
    (120, 1): "c72dc255d2f50062",
}
"""SHA-256 of the captions of held-out sets, a line each, before there was a test split."""


def every_scene() -> Iterator[Scene]:
    for color, shape in product(COLORS, SHAPES):
        plain = SceneObject(color=color, shape=shape)
        yield Scene(category="color", objects=(plain,))
        yield from (Scene(category="counting", objects=(plain,), count=n) for n in COUNTS.values())
        for style in STYLES:
            styled = SceneObject(color=color, shape=shape, style=style)
            yield Scene(category="style", objects=(styled,))
    for color, text in product(COLORS, (*WORDS, *LETTERS)):
        yield Scene(category="text", objects=(SceneObject(color=color, shape="text"),), text=text)
    styles = ((None, None), *permutations(STYLES, 2))
    colors, shapes = permutations(COLORS, 2), permutations(SHAPES, 2)
    for (c, other), (s, another), (f, third) in product(colors, shapes, styles):
        pair = (
            SceneObject(color=c, shape=s, style=f),
            SceneObject(color=other, shape=another, style=third),
        )
        yield Scene(category="binding", objects=pair)
        if f is None:
            for relation in RELATIONS:
                yield Scene(category="position", objects=pair, relation=relation)


def composed(scene: Scene) -> Any:
    """What is composed, told without the package: a bag of objects, a number and a text."""
    items = frozenset((item.color, item.shape, item.style) for item in scene.objects)
    return items, scene.count, scene.text


@pytest.fixture(scope="module")
def world() -> dict[Split, list[Scene]]:
    found: dict[Split, list[Scene]] = {split: [] for split in SPLITS}
    for scene in every_scene():
        found[split_of(scene)].append(scene)
    return found


def test_no_combination_and_no_caption_is_in_two_splits(world: dict[Split, list[Scene]]):
    for told in (composed, caption):
        parts = [{told(scene) for scene in world[split]} for split in SPLITS]
        assert sum(map(len, parts)) == len(set.union(*parts))
    assert all(world[split] for split in SPLITS)


def test_prompt_sets_stay_in_their_split():
    sets = {split: prompt_set(102, split=split, seed=1234) for split in SPLITS}
    for split, scenes in sets.items():
        assert {split_of(scene) for scene in scenes} == {split}
    rng = np.random.default_rng(0)
    for split in SPLITS:
        assert {split_of(sample_split(rng, split=split)) for _ in range(50)} == {split}


@pytest.mark.parametrize(("size", "seed"), RECORDED)
def test_the_held_out_sets_of_committed_results_are_what_they_were(size: int, seed: int):
    scenes = prompt_set(size, split="held_out", seed=seed)
    lines = "\n".join(map(caption, scenes)).encode()
    assert hashlib.sha256(lines).hexdigest().startswith(RECORDED[size, seed])
    # As it was drawn: the draw does not say of itself what it leaves out.
    assert (size, seed) in LOOKED_AT


def test_the_test_split_has_all_kept_combinations_that_nobody_looked_at(
    world: dict[Split, list[Scene]],
):
    """Of other categories nothing is left, but for one styled object, which is no stratum."""
    sets = [prompt_set(size, split="held_out", seed=seed) for size, seed in LOOKED_AT]
    looked_at = {composed(scene) for scenes in sets for scene in scenes}
    fresh = [scene for scene in world["held_out"] if composed(scene) not in looked_at]
    assert [(scene.category, caption(scene)) for scene in fresh] == [
        ("style", "an outlined yellow cross")
    ]
    assert not looked_at & {composed(scene) for scene in world["test"]}
    counts = {name: sum(s.category == name for s in world["test"]) for name in CATEGORIES}
    assert {name for name, count in counts.items() if count} == set(TEST_CATEGORIES)
    assert min(counts[name] for name in TEST_CATEGORIES) >= 25


def test_a_category_that_the_test_split_lacks_is_refused():
    with pytest.raises(ValueError, match="position, binding, text; received 'color'"):
        sample_split(np.random.default_rng(0), split="test", category="color")


@pytest.mark.parametrize("name", ["table1", "improvement", "ablation", "reward_budgets"])
def test_committed_runs_have_seen_no_test_combination(name: str):
    """The prompts that they list are the held-out set's, at its places."""
    listings = []
    with tarfile.open(RESULTS / name / "runs.tar.xz") as archive:
        for member in archive:
            if member.name.endswith("samples/prompts.json"):
                listings.append((member.name, json.load(archive.extractfile(member))))  # type: ignore[arg-type]
    held_out = [listing for path, listing in listings if "-test/" not in path]
    assert held_out
    for listing in held_out:
        categories = listing["categories"]
        scenes = prompt_set(len(categories), split="held_out", seed=1234)
        assert [scene.category for scene in scenes] == categories
        places = spread(categories, PICTURED_PROMPTS)
        pictured = [item["prompt"] for item in listing["held_out"]]
        assert pictured == [caption(scenes[place]) for place in places]
        seen = {*pictured, *listing["strip"]}
        assert "test" not in {split_of(parse_caption(text)) for text in seen}

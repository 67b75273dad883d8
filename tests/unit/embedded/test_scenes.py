"""The scenes world: captions, their inverse, the split, hard negatives."""

import numpy as np
import pytest

from adrpo.embedded.scenes import (
    CATEGORIES,
    COLORS,
    HELD_OUT_FRACTION,
    SHAPES,
    Scene,
    SceneObject,
    caption,
    hard_negatives,
    parse_caption,
    prompt_set,
    sample_scene,
    split_of,
)


def many(count: int, seed: int = 0) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [sample_scene(rng, CATEGORIES[i % len(CATEGORIES)]) for i in range(count)]


def test_parsing_a_caption_gives_back_its_scene():
    for scene in many(1200):
        assert parse_caption(caption(scene)) == scene


def test_captions_read_as_english():
    red = SceneObject(color="red", shape="circle")
    cross = SceneObject(color="orange", shape="cross", style="outlined")
    assert caption(Scene(category="color", objects=(red,))) == "a red circle"
    assert caption(Scene(category="style", objects=(cross,))) == "an outlined orange cross"
    three = Scene(category="counting", objects=(SceneObject(color="blue", shape="cross"),), count=3)
    assert caption(three) == "three blue crosses"
    pair = Scene(category="position", objects=(red, cross), relation="left of")
    assert caption(pair) == "a red circle left of an outlined orange cross"


@pytest.mark.parametrize(
    "text",
    ["", "a", "red circle", "a mauve circle", "five red circles", "the word hello in red",
     "a red circle beside a blue square", "the letter a on red", "two red circle"],
)  # fmt: skip
def test_other_text_is_no_caption(text: str):
    with pytest.raises(ValueError, match="expected a caption of the scenes world"):
        parse_caption(text)


def test_the_split_is_by_combination_whatever_order_and_relation():
    for scene in many(600):
        if len(scene.objects) == 2:
            swapped = Scene(category="position", objects=scene.objects[::-1], relation="above")
            plain = Scene(category="binding", objects=scene.objects)
            assert split_of(swapped) == split_of(scene) == split_of(plain)


def test_a_fifth_of_the_combinations_is_kept_from_training():
    distinct = {caption(scene): scene for scene in many(6000)}
    share = np.mean([split_of(scene) != "train" for scene in distinct.values()])
    # Binomial standard error with over 3,000 combinations is below 0.008; five of them.
    assert abs(share - HELD_OUT_FRACTION) < 0.04


def test_prompt_sets_are_distinct_disjoint_and_even_over_categories():
    train = prompt_set(240, split="train", seed=3)
    held_out = prompt_set(60, split="held_out", seed=3)
    assert len({caption(scene) for scene in train}) == 240
    assert not {caption(scene) for scene in train} & {caption(scene) for scene in held_out}
    assert all(split_of(scene) == "held_out" for scene in held_out)
    counts = [sum(scene.category == category for scene in held_out) for category in CATEGORIES]
    assert counts[0] >= 6 and max(counts) - min(counts[1:]) <= 1


def test_a_category_that_runs_dry_leaves_its_share_to_the_others():
    scenes = prompt_set(120, split="held_out", seed=1)
    colors = {caption(scene) for scene in scenes if scene.category == "color"}
    combinations = {(c, s) for c in COLORS for s in SHAPES}
    objects = [SceneObject(color=c, shape=s) for c, s in combinations]
    all_scenes = [Scene(category="color", objects=(item,)) for item in objects]
    assert colors == {caption(scene) for scene in all_scenes if split_of(scene) == "held_out"}


def test_a_prompt_set_repeats_with_its_seed():
    assert prompt_set(30, split="held_out", seed=5) == prompt_set(30, split="held_out", seed=5)
    assert prompt_set(30, split="held_out", seed=5) != prompt_set(30, split="held_out", seed=6)


def test_hard_negatives_are_other_captions_of_the_same_kind():
    for scene in many(120):
        negatives = hard_negatives(scene)
        texts = [caption(negative) for negative in negatives]
        assert len(texts) >= 5
        assert caption(scene) not in texts
        for negative in negatives:
            assert parse_caption(caption(negative)) == negative

"""The scenes world's judge as a reward: its three values, and what it has no score for."""

import numpy as np
import pytest
from PIL import Image

from adrpo.config import RewardTermSection, load_flow_config
from adrpo.embedded.gold import gold_scores
from adrpo.embedded.rendering import render
from adrpo.embedded.scenes import CATEGORIES, caption, hard_negatives, parse_caption, sample_scene
from adrpo.errors import AdrpoError
from adrpo.rewards.loading import build_reward
from adrpo.rewards.scene_judge import SceneJudge
from adrpo.rewards.scoring import score


def test_the_verdict_is_gold_accuracy_and_the_mean_lies_between_it_and_the_share():
    rng = np.random.default_rng(3)
    scenes = [sample_scene(rng, category) for category in CATEGORIES for _ in range(4)]
    wrong = [hard_negatives(scene)[0] for scene in scenes]
    images = [render(scene, rng) for scene in (*scenes, *wrong)]
    prompts = [caption(scene) for scene in scenes] * 2
    verdict, share, mean = (
        np.asarray(SceneJudge(value)(prompts, images)) for value in ("verdict", "share", "mean")
    )
    assert verdict.tolist() == gold_scores(prompts, images)
    assert 0.3 < verdict.mean() < 0.7
    np.testing.assert_allclose(mean, (verdict + share) / 2)
    assert ((share == 1) == (verdict == 1)).all() and (share[verdict == 0] < 1).all()


def test_a_picture_within_the_judges_limits_and_beyond_the_strict_ones_tells_the_two_apart():
    image = render(parse_caption("a red circle"), np.random.default_rng(0))
    pixels = np.asarray(image).copy()
    pixels[1:5, 1:3] = 0  # eight pixels: a speck, of which gold takes 12 and the strict judge 6
    terms = [RewardTermSection(name=f"scene_judge{end}") for end in ("", "_strict")]
    images = [image, Image.fromarray(pixels)]
    result = score(build_reward(terms, "cpu"), prompts=["a red circle"] * 2, images=images)
    assert result.by_term["scene_judge"].tolist() == [1, 1]
    # Clean is one of five requirements that is not met any more: 4/5, halved as the mean is.
    assert result.by_term["scene_judge_strict"].tolist() == pytest.approx([1, 0.4])


def test_one_circle_in_the_place_of_two_meets_four_of_seven():
    image = render(parse_caption("a red circle"), np.random.default_rng(0))
    # Clean, not empty, color and shape of 1; not the count, nor color and shape of 2.
    assert SceneJudge("share")(["two red circles"], [image]) == [4 / 7]
    assert SceneJudge()(["two red circles"], [image]) == [2 / 7]


def test_prompts_of_another_world_have_no_score():
    image = render(parse_caption("a red circle"), np.random.default_rng(0))
    (term,) = build_reward([RewardTermSection(name="scene_judge")], "cpu")
    result = score([term], prompts=["a red circle", "a photograph of a dog"], images=[image] * 2)
    assert result.total[0] == 1 and result.total[1].isnan() and not result.errors


def test_pictures_of_another_size_and_other_values_are_refused():
    with pytest.raises(AdrpoError, match=r"expected pictures of 64 x 64 pixels.*128 x 64"):
        SceneJudge()(["a red circle"], [Image.new("RGB", (128, 64))])
    with pytest.raises(AdrpoError, match="expected value verdict, share, mean; received 'all'"):
        build_reward([RewardTermSection(name="scene_judge", options={"value": "all"})], "cpu")


def test_the_recipe_is_adrpo_with_this_reward_and_what_halves_its_calls():
    ours, adrpo = (
        load_flow_config(name).model_dump() for name in ("flow/verifiable", "flow/adrpo")
    )
    assert [term["name"] for term in ours["reward"]] == ["scene_judge"]
    changes = {
        "algorithm": {"shared_points": True},
        "sampling": {"steps": 6, "solver": "dpmpp_2m"},
        "training": {
            "steps": 60,
            "learning_rate": 4e-3,
            "learning_rate_schedule": "constant",
            "ema_decay": 0.9,
        },
        "evaluation": {"every": 15},
    }
    for section, changed in changes.items():
        assert ours[section] == adrpo[section] | changed, section
    differing = {key for key in ours if ours[key] != adrpo[key]}
    assert differing == {"reward", "description", "source", *changes}

"""Best of n: more images never lower the reward that is kept, and n = 1 is the evaluation; chance
chooses from the same images."""

import numpy as np
import pytest

from adrpo.data import Prompt
from adrpo.errors import AdrpoWarning
from adrpo.evaluation.best_of_n import best_of_n
from adrpo.evaluation.evaluator import Evaluator
from adrpo.flow.drawing import DrawnImages
from adrpo.flow.models.families.stable_diffusion_3 import StableDiffusion3Policy
from adrpo.rewards import RewardTerm
from support.tiny_runs import darkness, image_evaluator, tiny_config

PER_IMAGE = ("darkness", "clip_score_evaluation", "edge_density", "color_entropy")


@pytest.fixture
def evaluator(policy: StableDiffusion3Policy) -> Evaluator[DrawnImages]:
    prompts = [Prompt("a red circle", "color"), Prompt("two blue stars", "counting")]
    config = tiny_config(evaluation={"samples_per_prompt": 3})
    return image_evaluator(config, policy, prompts, [RewardTerm("darkness", 1.0, darkness)])


def test_the_best_of_one_is_the_evaluation_itself(evaluator: Evaluator[DrawnImages]):
    measured = evaluator.measure().values
    found = best_of_n(evaluator, [1])
    for selected in (found.by_reward, found.by_chance):
        assert list(selected) == [1]
        for name, column in measured.items():
            assert np.array_equal(selected[1][name], column, equal_nan=True), name


def test_every_place_keeps_its_best_image(evaluator: Evaluator[DrawnImages]):
    """Against a loop over the draws: reward by reward the running maximum."""
    rewards = [evaluator.score(evaluator.drawing.draw(draw)).total.numpy() for draw in range(3)]
    found = best_of_n(evaluator, [3, 1, 2]).by_reward
    assert list(found) == [1, 2, 3]
    for n, values in found.items():
        expected = np.max(rewards[: int(n)], axis=0).reshape(2, 3)
        # values are float64 of the same float32 numbers.
        assert np.array_equal(values["darkness"], expected)
    assert found[3]["darkness"].mean() > found[1]["darkness"].mean()


def test_chance_keeps_an_image_of_the_same_draws(evaluator: Evaluator[DrawnImages]):
    """Each place has all its metrics from one of the n draws, whatever other sizes are asked."""
    draws = [evaluator.values(evaluator.drawing.draw(draw)) for draw in range(4)]
    found = best_of_n(evaluator, [4, 2]).by_chance
    alone = best_of_n(evaluator, [4]).by_chance[4]
    for n, values in found.items():
        for place in np.ndindex(2, 3):
            told = [tuple(of[name][place] for name in PER_IMAGE) for of in (values, *draws)]
            assert told[0] in told[1 : int(n) + 1]
    for name, column in found[4].items():
        assert np.array_equal(column, alone[name], equal_nan=True), name


def test_an_unscored_image_loses(policy: StableDiffusion3Policy):
    calls = []

    def first_unscored(prompts, images, **_):
        calls.append(len(images))
        values = darkness(prompts, images)
        return [None] * len(values) if len(calls) == 1 else values

    prompts = [Prompt("a red circle", "color")]
    config = tiny_config(evaluation={"samples_per_prompt": 2})
    terms = [RewardTerm("darkness", 1.0, first_unscored)]
    judged = image_evaluator(config, policy, prompts, terms)
    other = darkness([], judged.drawing.draw(1).images)
    with pytest.warns(AdrpoWarning, match=r"of 2 places, .* \(2 at n = 1\); .* left out"):
        found = best_of_n(judged, [1, 2]).by_reward
    assert np.array_equal(found[2]["darkness"][0], np.float32(other))
    # Nothing is chosen from one without a score: no other metric of it counts for the selection.
    assert all(np.isnan(values).all() for values in found[1].values())


def test_a_prompt_without_any_score_is_left_out_of_all_metrics(policy: StableDiffusion3Policy):
    def of_circles(prompts, images, **_):
        values = darkness(prompts, images)
        pairs = zip(prompts, values, strict=True)
        return [value if "circle" in prompt else None for prompt, value in pairs]

    prompts = [Prompt("a red circle"), Prompt("two blue stars")]
    config = tiny_config(evaluation={"samples_per_prompt": 2})
    judged = image_evaluator(config, policy, prompts, [RewardTerm("darkness", 1.0, of_circles)])
    with pytest.warns(AdrpoWarning, match=r"of 4 places, .* \(2 at n = 2\)"):
        values = best_of_n(judged, [2]).by_reward[2]
    for name in ("clip_score_evaluation", "color_entropy"):
        assert np.isfinite(values[name][0]).all() and np.isnan(values[name][1]).all()

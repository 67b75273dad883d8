"""An evaluation's images and their metrics, each made again by itself, for its own prompt."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adrpo.config import FlowModelSection
from adrpo.config.flow import BY_CLIP
from adrpo.data.prompts import load_prompts
from adrpo.evaluation.image_statistics import color_entropy, edge_density
from adrpo.flow.drawing import DrawnImages, ImageDrawing, _picture
from adrpo.flow.models.loading import load_policy
from adrpo.flow.models.prompt_set import PromptSet
from adrpo.flow.path.draws import initial_noise
from adrpo.metrics import UNSEEN
from adrpo.rewards.image import ClipScore
from adrpo.runs.processes import Share
from support.tiny_runs import perturb, tiny_config

PROMPTS, EACH, SEED = 4, 3, 5
RIGHT = [[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 1, 1]]
"""What is right, of each prompt's images, in the place of the judge."""


class Drawn:
    """A drawing of the untrained model, in batches that part a prompt's images, and its images."""

    def __init__(self, split: str = UNSEEN, *, seed: int = SEED, adapted: bool = False) -> None:
        self.config = tiny_config(
            model={"device": "cpu"},
            evaluation={
                "seed": seed,
                "samples_per_prompt": EACH,
                "batch_size": 5,
                "sampling": {"steps": 2, "guidance_scale": 3.0},
            },
        )
        self.policy = load_policy(FlowModelSection(device="cpu"))
        if adapted:
            self.policy.add_adapter(self.config.adapter)
            perturb(self.policy)  # type: ignore[arg-type]
            for parameter in self.policy.adapter_parameters():
                parameter.data *= 5
        self.prompts = load_prompts("scenes:held_out", size=PROMPTS, seed=0)
        chosen = PromptSet.encoded(self.policy, self.prompts)
        self.drawing = ImageDrawing(self.config, self.policy, chosen, split=split)
        self.images: DrawnImages = self.drawing.draw()

    def rows(self) -> list[tuple[int, str]]:
        """(place, prompt) of each image."""
        texts = [prompt.text for prompt in self.prompts for _ in range(EACH)]
        return list(enumerate(texts))


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return Drawn()


def test_each_image_is_drawn_of_its_own_prompt_and_noise(drawn: Drawn) -> None:
    policy, sampling = drawn.policy, drawn.config.evaluation.sampling
    x_0 = initial_noise(PROMPTS * EACH, policy.latent_shape, SEED, "evaluation")
    unguided = sampling.model_copy(update={"guidance_scale": 1.0})
    for place, text in drawn.rows():
        own, prompt = x_0[place : place + 1], policy.encode([text])
        # Another size of the batch is another order of float32's sums.
        x_1 = policy.sample(own, prompt, sampling)[0]
        torch.testing.assert_close(drawn.images.x_1[place], x_1, rtol=0, atol=1e-3)
        assert (policy.sample(own, prompt, unguided)[0] - x_1).abs().max() > 0.01
    (image,) = policy.decode(drawn.images.x_1[4:5])
    assert np.abs(np.asarray(image, int) - np.asarray(drawn.images.images[4], int)).max() <= 1


def test_a_missing_picture_has_the_size_of_its_prompts_others() -> None:
    tall, wide = Image.new("RGB", (8, 16)), Image.new("RGB", (16, 8))
    shown = {(0, 0): None, (0, 1): wide, (1, 0): tall, (1, 1): None, (2, 0): None}
    assert [_picture(shown, prompt, 0).size for prompt in (0, 1)] == [wide.size, tall.size]
    assert _picture(shown, 1, 1).size == tall.size
    # Of a prompt without any, the size of one that is there.
    assert _picture(shown, 2, 0).size in (wide.size, tall.size)


def test_other_splits_seeds_and_draws_have_other_noises(drawn: Drawn) -> None:
    others = [Drawn("seen").images, Drawn(seed=6).images, drawn.drawing.draw(1)]
    found = [drawn.images.x_1, *(other.x_1 for other in others)]
    for place, one in enumerate(found):
        assert all((one - other).abs().max() > 0.1 for other in found[:place])


def test_each_metric_is_of_its_own_image_and_prompt(
    drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Sequence[str], Sequence[Any]]] = []

    def gold(prompts: Sequence[str], images: Sequence[Image.Image]) -> list[float]:
        asked.append((list(prompts), list(images)))
        return [float(right) for row in RIGHT for right in row]

    monkeypatch.setattr("adrpo.flow.drawing.gold_scores", gold)
    values = drawn.drawing.measure(drawn.images)
    images: list[Any] = drawn.images.images
    assert asked == [([text for _, text in drawn.rows()], images)]
    np.testing.assert_array_equal(values["gold_accuracy"], RIGHT)
    clip = ClipScore(drawn.config.evaluation.clip)
    for place, text in drawn.rows():
        of = divmod(place, EACH)
        expected = {
            "clip_score_evaluation": clip([text], [images[place]])[0],
            "edge_density": edge_density(images[place]),
            "color_entropy": color_entropy(images[place]),
        }
        for name, value in expected.items():
            assert values[name][of] == pytest.approx(value, rel=1e-4), name
    embeds = clip.embed_images(images).view(PROMPTS, EACH, -1)
    for prompt, own in enumerate(embeds):
        for name, chosen in (
            ("clip_diversity", [True] * EACH),
            ("clip_diversity_right", [right == 1 for right in RIGHT[prompt]]),
        ):
            among = own[torch.tensor(chosen)]
            pairs = [100 * (1 - float(a @ b)) for i, a in enumerate(among) for b in among[:i]]
            mean = np.mean(pairs) if pairs else np.nan
            assert values[name][prompt] == pytest.approx(mean, rel=1e-3, nan_ok=True), name


def test_without_a_judge_the_other_metrics_are_what_they_were(drawn: Drawn) -> None:
    evaluation = drawn.config.evaluation.model_copy(update={"clip": None})
    config = drawn.config.model_copy(update={"evaluation": evaluation})
    plain = ImageDrawing(config, drawn.policy, drawn.drawing.prompts)
    found, before = plain.measure(drawn.images), drawn.drawing.measure(drawn.images)
    assert before.keys() - found.keys() == set(BY_CLIP)
    for name, values in found.items():
        np.testing.assert_array_equal(values, before[name])


def test_an_image_that_is_missing_leaves_the_others_their_prompts(
    drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Sequence[str]] = []

    def gold(prompts: Sequence[str], images: Sequence[Image.Image]) -> list[float]:
        asked.append(list(prompts))
        return [1.0] * len(images)

    monkeypatch.setattr("adrpo.flow.drawing.gold_scores", gold)
    images = [image if place != 1 else None for place, image in enumerate(drawn.images.images)]
    values = drawn.drawing.measure(DrawnImages(images=images, x_1=drawn.images.x_1))
    assert asked == [[text for place, text in drawn.rows() if place != 1]]
    known = np.ones((PROMPTS, EACH))
    known[0, 1] = np.nan
    np.testing.assert_array_equal(values["gold_accuracy"], known)
    # The first prompt has two right images, and no diversity of all that it was asked for.
    np.testing.assert_array_equal(np.isnan(values["clip_diversity_right"]), [True, *[False] * 3])


def test_a_process_measures_its_share_as_one_would() -> None:
    """Images, prompts and points of the divergence are those of the share's places in the whole."""
    drawn = Drawn(adapted=True)
    whole = drawn.drawing.measure(drawn.images)
    divergences = whole["divergence"].flatten()
    # Those of one image at other points differ by more than the tolerance below.
    assert divergences.min() > 0.02 and np.ptp(divergences) > 0.2 * divergences.mean()

    class Second:
        def share(self, total: int, what: str) -> Share:
            return Share(2, total, total)

    part: Any = ImageDrawing(
        drawn.config,
        drawn.policy,
        drawn.drawing.prompts,
        processes=Second(),  # type: ignore[arg-type]
    )
    images = part.draw()
    torch.testing.assert_close(images.x_1, drawn.images.x_1[2 * EACH :], rtol=0, atol=1e-3)
    found = part.measure(images)
    assert found.keys() == whole.keys()
    for name, values in found.items():
        np.testing.assert_allclose(values, whole[name][2:], rtol=1e-2, atol=1e-3, err_msg=name)
    assert part.columns(images)["prompts"] == [text for _, text in drawn.rows()[2 * EACH :]]

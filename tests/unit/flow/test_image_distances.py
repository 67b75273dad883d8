"""Distances of an evaluation's images from its references, each set looked at again by itself."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adrpo.config import FlowModelSection
from adrpo.data.base import Prompt
from adrpo.data.prompts import load_prompts
from adrpo.embedded.gold import gold_scores
from adrpo.embedded.rendering import SOLID, render
from adrpo.embedded.scenes import parse_caption
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.evaluation import frechet_distance
from adrpo.evaluation.distance_values import kernel_values
from adrpo.evaluation.image_features import ImageFeatures
from adrpo.evaluation.values import Values
from adrpo.flow.domain import FlowSubject
from adrpo.flow.drawing import DrawnImages, ImageDrawing
from adrpo.flow.models.loading import load_policy
from adrpo.flow.models.prompt_set import PromptSet
from adrpo.runs.processes import Share
from support.tiny_runs import perturb, tiny_config
from support.tiny_vision import WIDTH, picture_folder, pictures, tiny_dinov2

PROMPTS, EACH = 4, 3
FEW = "ignore:evaluation.distances. "
"""The warning that twelve images are few, as they are everywhere here."""
pytestmark = pytest.mark.filterwarnings(FEW)


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dinov2(tmp_path_factory.mktemp("dinov2"))


@pytest.fixture(scope="module")
def policy() -> Any:
    """A policy that has moved away from its base."""
    found: Any = load_policy(FlowModelSection(device="cpu"))
    found.add_adapter(tiny_config().adapter)
    perturb(found)
    for parameter in found.adapter_parameters():
        parameter.data *= 5
    return found


def config(features: Path, references: str | None, **sampling: Any) -> Any:
    return tiny_config(
        model={"device": "cpu"},
        evaluation={
            "samples_per_prompt": EACH,
            "batch_size": 5,
            "sampling": {"steps": 2, **sampling},
            "distances": {"features": str(features), "references": references},
        },
    )


def drawing(policy: Any, settings: Any, **options: Any) -> ImageDrawing:
    prompts = load_prompts("scenes:held_out", size=PROMPTS, seed=0)
    return ImageDrawing(settings, policy, PromptSet.encoded(policy, prompts), **options)


def measured(own: ImageDrawing, drawn: DrawnImages) -> Values:
    assert own.distances is not None
    return own.distances.measure(drawn)


def test_the_drift_is_from_what_the_base_draws_of_the_same_noises(
    policy: Any, dinov2: Path
) -> None:
    own = drawing(policy, config(dinov2, None))
    images = own.draw()
    found = measured(own, images)
    with policy.reference():
        base = own.draw()
        assert not any(values.any() for values in measured(own, base).values())
    network = ImageFeatures(dinov2)
    features, theirs = (network.of([i for i in part.images if i]) for part in (images, base))
    expected = frechet_distance(features, theirs)
    # Batches of five and of twelve are summed in another order.
    assert found["frechet_drift"].mean() == pytest.approx(expected, rel=1e-3)
    assert expected > 0.1
    each = [part.view(PROMPTS, EACH, WIDTH) for part in (features, theirs)]
    np.testing.assert_allclose(found["kernel_drift"], kernel_values(*each), rtol=1e-2, atol=1e-3)
    # They stand beside the other metrics of the drawing.
    assert found.keys() == {"frechet_drift", "kernel_drift"} < own.measure(images).keys()


def test_the_distance_is_from_the_pictures_of_a_folder(
    policy: Any, dinov2: Path, tmp_path: Path
) -> None:
    folder = picture_folder(tmp_path, 6)
    own = drawing(policy, config(dinov2, str(folder)))
    images = own.draw()
    found = measured(own, images)
    network = ImageFeatures(dinov2)
    features, real = network.of([i for i in images.images if i]), network.of(pictures(6))
    expected = frechet_distance(features, real)
    assert found["frechet_distance"].mean() == pytest.approx(expected, rel=1e-3)
    values = kernel_values(features.view(PROMPTS, EACH, WIDTH), real)
    np.testing.assert_allclose(found["kernel_distance"], values, rtol=1e-2, atol=1e-3)
    assert own.listing()["references"] == own.distances.references.digest  # type: ignore[union-attr]
    assert found.keys() == {"frechet_distance", "kernel_distance"}


def test_scenes_are_right_pictures_of_the_own_captions(policy: Any, dinov2: Path) -> None:
    own = drawing(policy, config(dinov2, "scenes"))
    found = measured(own, own.draw())
    seed, images = own.settings.seed, []
    for number, prompt in enumerate(own.prompts):
        rng = np.random.default_rng((seed, number))
        scene = parse_caption(prompt.text)
        images += [render(scene, rng, open_styles=SOLID) for _ in range(EACH)]
    texts = [prompt.text for prompt in own.prompts for _ in range(EACH)]
    assert np.mean(gold_scores(texts, images)) > 0.9
    same = measured(own, DrawnImages(images=list(images), x_1=torch.empty(0)))
    assert not any(values.any() for values in same.values())
    assert found["frechet_distance"].mean() > 0.1


def test_a_missing_image_takes_its_prompt_along(policy: Any, dinov2: Path) -> None:
    own = drawing(policy, config(dinov2, "scenes"))
    drawn = own.draw()
    gone = [None if place == 4 else image for place, image in enumerate(drawn.images)]
    found = measured(own, DrawnImages(images=gone, x_1=drawn.x_1))
    np.testing.assert_array_equal(np.isnan(found["kernel_distance"]), [False, True, False, False])
    none = measured(own, DrawnImages(images=[None] * 12, x_1=drawn.x_1))
    assert all(np.isnan(values).all() and len(values) == PROMPTS for values in none.values())


class OneOfTwo:
    """A process of two, which hears ``others`` from the other one and keeps what it ``said``."""

    count = 2

    def __init__(self, rank: int, others: Iterable[Any] = ()) -> None:
        self.rank, self.others = rank, iter(others)
        self.is_main = rank == 0
        self.said: list[Any] = []

    def share(self, total: int, what: str) -> Share:
        return [Share(0, 1, total), Share(1, total, total)][self.rank]

    def gather(self, value: Any) -> list[Any]:
        self.said.append(value)
        other = next(self.others, value)
        return [value, other] if self.rank == 0 else [other, value]


@pytest.mark.parametrize("references", [None, "scenes", "folder"])
def test_processes_measure_one_set_together(
    policy: Any, dinov2: Path, tmp_path: Path, references: str | None
) -> None:
    """Each has the values of its own prompts, in the set of all."""
    if references == "folder":
        references = str(picture_folder(tmp_path, 5))
    settings = config(dinov2, references)
    whole = drawing(policy, settings)
    images = whole.draw()
    expected = measured(whole, images)

    def share(process: OneOfTwo) -> Values:
        part = drawing(policy, settings, processes=process)
        own = slice(part.rows.start, part.rows.stop)
        return measured(part, DrawnImages(images=images.images[own], x_1=images.x_1[own]))

    alone = [OneOfTwo(rank) for rank in range(2)]
    for process in alone:
        share(process)
    found = [share(OneOfTwo(rank, alone[1 - rank].said)) for rank in range(2)]
    for name, values in expected.items():
        assert [len(own[name]) for own in found] == [1, PROMPTS - 1]
        # Batches of other sizes are summed in another order.
        together = np.concatenate([own[name] for own in found])
        np.testing.assert_allclose(together, values, rtol=1e-2, atol=1e-3)


def test_a_guided_base_is_compared_with_the_base_of_the_settings(dinov2: Path) -> None:
    subject = FlowSubject(config(dinov2, None, guidance_scale=1.0))
    guided = subject.guided(3.0)
    with_guidance = guided.measure().values
    plain = subject.evaluator.measure().values
    assert not plain["kernel_drift"].any() and not plain["frechet_drift"].any()
    assert with_guidance["frechet_drift"].mean() > 0.1


def test_few_images_are_told_once(policy: Any, dinov2: Path) -> None:
    own = drawing(policy, config(dinov2, "scenes"))
    images = own.draw()
    with pytest.warns(AdrpoWarning, match=rf"12 images and 12 references have {WIDTH} features"):
        measured(own, images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured(own, images)
    prompts = PromptSet.encoded(policy, list(own.prompts)[:2])
    two = ImageDrawing(config(dinov2, "scenes"), policy, prompts)
    with pytest.warns(AdrpoWarning, match="of 2 prompts there is no frechet_distance and no"):
        measured(two, two.draw())


def test_what_can_t_be_compared_is_refused_before_anything_is_drawn(
    policy: Any, dinov2: Path, tmp_path: Path
) -> None:
    prompts = PromptSet.encoded(policy, [Prompt("a castle in the fog")])
    with pytest.raises(AdrpoError, match=r"captions of the scenes world .*'a castle in the fog'"):
        ImageDrawing(config(dinov2, "scenes"), policy, prompts)
    with pytest.raises(AdrpoError, match=r"evaluation\.distances\.references: .* not there"):
        drawing(policy, config(dinov2, str(tmp_path / "gone")))
    folder = picture_folder(tmp_path, 4)
    (folder / "2.png").write_bytes(b"no picture")
    own = drawing(policy, config(dinov2, str(folder)))
    with pytest.raises(AdrpoError, match=rf"^{folder / '2.png'}: expected an image") as caught:
        measured(own, own.draw())
    assert "\n" not in str(caught.value)

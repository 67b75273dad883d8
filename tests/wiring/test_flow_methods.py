"""Every key of every method of the domain flow, changed once (wiring/flow_methods.py)."""

from pathlib import Path

import pytest

from wiring.flow_methods import ALGORITHM, PAIRS, ratio_steps
from wiring.flow_shared_keys import COPYING, LAGGING, POINTS, REFUSED
from wiring.image_groups import GROUPED
from wiring.table import Seen


@pytest.mark.parametrize("key", ALGORITHM)
def test_the_gradient_follows_the_key(key: str) -> None:
    row = ALGORITHM[key]
    assert isinstance(row, Seen)
    row.effect(key.partition("[")[2].partition("]")[0], row.value)


def test_trajectories_are_drawn_and_parted_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = ratio_steps()[0].trainer
    found = []
    for seed in (0, 7):
        training = trainer.config.training.model_copy(update={"seed": seed})
        seeded = trainer.config.model_copy(update={"training": training})
        monkeypatch.setattr(trainer, "config", seeded)
        parts = [part.tolist() for part, _ in trainer.update_parts(1, 3)]
        found.append((trainer.fresh_noise(2, 1, "sde"), parts))
    (noise, parts), (other_noise, other_parts) = found
    assert (noise - other_noise).abs().mean() > 0.5
    assert parts != other_parts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pairs")


@pytest.mark.parametrize("key", PAIRS)
def test_pairs_follow_the_key(key: str, folder: Path) -> None:
    row = PAIRS[key]
    assert isinstance(row, Seen)
    row.effect(folder, row.value)


@pytest.mark.parametrize("key", [*LAGGING, *COPYING])
def test_the_models_beside_the_policy_follow_the_key(key: str) -> None:
    row = {**LAGGING, **COPYING}[key]
    assert isinstance(row, Seen)
    row.effect(row.value)


@pytest.mark.parametrize("key", POINTS)
def test_the_points_of_the_images_follow_the_key(key: str) -> None:
    row = POINTS[key]
    assert isinstance(row, Seen)
    row.effect(row.value)


@pytest.mark.parametrize("key", GROUPED)
def test_the_gradient_of_a_group_follows_the_key(key: str) -> None:
    row = GROUPED[key]
    assert isinstance(row, Seen)
    row.effect(key, row.value)


@pytest.mark.parametrize("key", REFUSED)
def test_a_reward_that_is_only_read_is_not_weighed(key: str) -> None:
    row = REFUSED[key]
    assert isinstance(row, Seen)
    row.effect(key, row.value)

"""Values of prompts whose mean is a distance: against the sums and the derivatives written out."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from adrpo.errors import AdrpoError
from adrpo.evaluation import distance_values, frechet_distance, kernel_distance
from adrpo.evaluation.distance_values import frechet_values, kernel_values, mean_kernel


def drawn(*shape: int, seed: int, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64) + shift


IMAGES = drawn(7, 3, 4, seed=1)
PAIRED = drawn(7, 2, 4, seed=2, shift=0.4) * 1.2
FOLDER = drawn(11, 4, seed=3, shift=-0.3)


def flat(part: Tensor) -> Tensor:
    return part.reshape(-1, part.shape[-1])


@pytest.mark.parametrize("references", [PAIRED, FOLDER], ids=["paired", "folder"])
def test_the_mean_is_the_frechet_distance(references: Tensor) -> None:
    expected = frechet_distance(flat(IMAGES), flat(references))
    assert frechet_values(IMAGES, references).mean() == pytest.approx(expected, rel=1e-9)


def weighted_frechet(weights: np.ndarray, paired: bool) -> float:
    """The distance by a root of a matrix, where the prompts have ``weights`` with the sum 1."""
    sides = []
    for part, moves in ((IMAGES, True), (PAIRED if paired else FOLDER[:, None], paired)):
        own = weights if moves else np.full(len(part), 1 / len(part))
        rows, each = flat(part).numpy(), np.repeat(own, part.shape[1]) / part.shape[1]
        mean = each @ rows
        spread = (rows - mean).T @ ((rows - mean) * each[:, None]) * len(rows) / (len(rows) - 1)
        sides.append((mean, spread))
    (mean, spread), (other_mean, other) = sides
    values, vectors = np.linalg.eigh(spread)
    half = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    root = np.sqrt(np.linalg.eigvalsh(half @ other @ half)).sum()
    return float(((mean - other_mean) ** 2).sum() + np.trace(spread + other) - 2 * root)


@pytest.mark.parametrize("paired", [True, False])
def test_a_value_is_the_derivative_by_the_weight_of_the_prompt(paired: bool) -> None:
    found = frechet_values(IMAGES, PAIRED if paired else FOLDER)
    equal, step = np.full(7, 1 / 7), 1e-6
    for prompt in range(7):
        toward = np.eye(7)[prompt] - equal
        ends = [weighted_frechet(equal + way * step * toward, paired) for way in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * step)
        # The error of a central difference is of the order of step^2, that of rounding 1e-16/step.
        assert found[prompt] == pytest.approx(found.mean() + slope, abs=1e-6)


def kernel(a: Tensor, b: Tensor) -> float:
    return (float(a @ b) / len(a) + 1) ** 3


def over_pairs(own: Tensor, others: Tensor) -> float:
    """Mean kernel of all pairs of two images of different prompts, written out."""
    found = [
        kernel(own[p, i], others[q, j])
        for p, q in product(range(len(own)), range(len(others)))
        for i, j in product(range(own.shape[1]), range(others.shape[1]))
        if p != q
    ]
    return float(np.mean(found))


def written_out(images: Tensor, references: Tensor) -> float:
    if references.ndim == 3:
        between = over_pairs(images, references)
        return over_pairs(images, images) + over_pairs(references, references) - 2 * between
    between = np.mean([kernel(a, b) for a, b in product(flat(images), references)])
    singles = references[:, None]
    return over_pairs(images, images) + over_pairs(singles, singles) - 2 * float(between)


@pytest.mark.parametrize("references", [PAIRED, FOLDER], ids=["paired", "folder"])
def test_kernel_values_are_the_jackknife_of_the_sums_written_out(references: Tensor) -> None:
    found = kernel_values(IMAGES, references)
    whole = written_out(IMAGES, references)
    assert found.mean() == pytest.approx(whole, rel=1e-9)
    for prompt in range(7):
        left = [place for place in range(7) if place != prompt]
        others = references[left] if references.ndim == 3 else references
        without = written_out(IMAGES[left], others)
        assert found[prompt] == pytest.approx(7 * whole - 6 * without, rel=1e-9, abs=1e-9)


def test_with_one_image_a_prompt_it_is_the_kernel_distance_of_whole_sets() -> None:
    images, references = drawn(12, 1, 4, seed=4), drawn(12, 4, seed=5, shift=0.5)
    whole, _ = kernel_distance(images[:, 0], references, subsets=1, subset_size=12)
    assert kernel_values(images, references).mean() == pytest.approx(whole, rel=1e-9)


def test_equal_sets_are_0_apart_and_a_shift_adds_its_square() -> None:
    for values in (frechet_values, kernel_values):
        np.testing.assert_allclose(values(IMAGES, IMAGES), 0, atol=1e-12)
    shifted = frechet_values(IMAGES, IMAGES + 2)
    assert shifted.mean() == pytest.approx(4 * 2**2, rel=1e-9)
    # The square is that of all prompts alike; no spread of theirs differs.
    np.testing.assert_allclose(shifted, shifted.mean(), rtol=1e-6)


def test_images_of_one_prompt_are_not_held_to_be_independent() -> None:
    """Where the images of a prompt are copies, and the references of the same distribution."""

    def distances(seed: int) -> tuple[float, float]:
        images = drawn(20, 1, 4, seed=seed).expand(20, 5, 4)
        references = drawn(100, 4, seed=10_000 + seed)
        naive, _ = kernel_distance(flat(images), references, subsets=1, subset_size=100)
        return float(kernel_values(images, references).mean()), naive

    found, naive = np.array([distances(seed) for seed in range(150)]).T
    error = found.std() / len(found) ** 0.5
    assert abs(found.mean()) < 3.5 * error
    # A mean over all pairs i != j, those of one prompt included, is above 0 by far more.
    assert naive.mean() > 10 * error


def test_a_missing_image_leaves_its_prompt_out_of_the_sets() -> None:
    gone = IMAGES.clone()
    gone[2, 1] = torch.nan
    theirs = PAIRED.clone()
    theirs[5, 0] = torch.nan
    for values in (frechet_values, kernel_values):
        found = values(gone, theirs)
        np.testing.assert_array_equal(np.isnan(found), [place in (2, 5) for place in range(7)])
        left = [0, 1, 3, 4, 6]
        np.testing.assert_allclose(found[left], values(IMAGES[left], PAIRED[left]))
        few = values(IMAGES[:2], FOLDER)
        assert np.isnan(few).all() and len(few) == 2
        assert np.isfinite(values(IMAGES[:3], FOLDER)).all()


def test_blocks_and_what_is_known_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [kernel_values(IMAGES, references) for references in (PAIRED, FOLDER)]
    monkeypatch.setattr(distance_values, "BLOCK", 1)
    found = [kernel_values(IMAGES, PAIRED)]
    found.append(kernel_values(IMAGES, FOLDER, among=mean_kernel(FOLDER)))
    # Products of other shapes are rounded otherwise.
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_sets_that_can_t_be_compared_are_refused() -> None:
    calls: list[tuple[Any, str]] = [
        ((IMAGES, FOLDER[:, :3]), "received 4 and 3 numbers"),
        ((IMAGES, FOLDER[:1]), "at least 2 references; received 1"),
    ]
    for arguments, words in calls:
        for values in (frechet_values, kernel_values):
            with pytest.raises(AdrpoError, match=words):
                values(*arguments)

"""CLIP score and CLIP diversity against geometry and against plain loops."""

from itertools import permutations

import pytest
import torch

from adrpo.errors import AdrpoError
from adrpo.evaluation import clip_diversity, clip_score
from adrpo.evaluation.image_metrics import DiversityKind

# 100 times a float32 cosine: one rounding of 1 is 1.2e-7, a handful of them times 100.
ATOL = 1e-4


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    """In float64, spelled out."""
    a, b = a.double(), b.double()
    return float((a @ b) / ((a @ a).sqrt() * (b @ b).sqrt()))


def test_clip_score_of_known_angles() -> None:
    images = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0], [1.0, 3.0**0.5]])
    texts = torch.tensor([[5.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.1, 0.0]])
    expected = torch.tensor([100.0, 0.0, -100.0, 50.0])  # 0, 90, 180 and 60 degrees
    torch.testing.assert_close(clip_score(images, texts), expected, rtol=0, atol=ATOL)


def test_clip_score_pairs_each_image_with_its_own_text() -> None:
    rng = torch.Generator().manual_seed(0)
    images, texts = torch.randn(2, 7, 16, generator=rng).unbind()
    expected = torch.tensor([100 * cosine(i, t) for i, t in zip(images, texts, strict=True)])
    torch.testing.assert_close(clip_score(images, texts), expected, rtol=0, atol=ATOL)


def test_clip_score_refuses_unpaired_embeddings() -> None:
    with pytest.raises(AdrpoError, match=r"\[3, 4\] and \[1, 4\]"):
        clip_score(torch.ones(3, 4), torch.ones(1, 4))


def test_clip_diversity_is_the_mean_over_ordered_pairs_within_a_prompt() -> None:
    embeds = torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(1))
    expected = torch.tensor(
        [
            sum(100 * (1 - cosine(a, b)) for a, b in permutations(prompt, 2)) / (4 * 3)
            for prompt in embeds
        ]
    )
    torch.testing.assert_close(clip_diversity(embeds), expected, rtol=0, atol=ATOL)


def test_l2_diversity_is_the_mean_distance_of_unit_embeddings() -> None:
    embeds = torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(1))
    unit = embeds / embeds.norm(dim=-1, keepdim=True)
    expected = torch.stack([torch.pdist(prompt).mean() for prompt in unit])
    # The root of a difference of cosines near 1: float32 leaves 1e-6 of it.
    torch.testing.assert_close(clip_diversity(embeds, kind="l2_unit"), expected, rtol=0, atol=1e-5)


def test_raw_l2_diversity_is_the_mean_distance_of_the_embeddings_as_they_are() -> None:
    rng = torch.Generator().manual_seed(1)
    embeds = torch.randn(5, 4, 8, generator=rng) * 10
    expected = torch.stack([torch.pdist(prompt).mean() for prompt in embeds])
    result = clip_diversity(embeds, kind="l2_raw")
    # float32 sums of eight squares of size 100.
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(clip_diversity(3 * embeds, kind="l2_raw"), 3 * result)
    unit = embeds / embeds.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(
        clip_diversity(unit, kind="l2_raw"),
        clip_diversity(embeds, kind="l2_unit"),
        rtol=0,
        atol=1e-5,  # as for l2_unit above
    )


def test_raw_l2_diversity_keeps_the_digits_of_close_embeddings() -> None:
    # 30 from the origin and 1e-3 apart: |a|^2 + |b|^2 - 2 a.b would leave nothing of it.
    embeds = torch.tensor([[[30.0, 0.0], [30.0, 1e-3]]])
    assert clip_diversity(embeds, kind="l2_raw").item() == pytest.approx(1e-3, rel=1e-6)


def test_the_vendi_score_counts_orthogonal_images() -> None:
    same = torch.randn(1, 1, 6, generator=torch.Generator().manual_seed(2)).expand(1, 4, 6)
    orthogonal = torch.eye(4, 6)[None] * 3
    two_pairs = torch.eye(4, 6)[[0, 0, 1, 1]][None]
    embeds = torch.cat([same, orthogonal, two_pairs])
    # An eigenvalue that is 0 up to rounding (1e-7) adds 1e-7 log 1e-7 to the entropy.
    torch.testing.assert_close(
        clip_diversity(embeds, kind="vendi"), torch.tensor([1.0, 4.0, 2.0]), rtol=0, atol=1e-5
    )


def test_the_vendi_score_of_two_images_has_a_closed_form() -> None:
    # The matrix [[1, c], [c, 1]] / 2 has the eigenvalues (1 + c) / 2 and (1 - c) / 2.
    embeds = torch.randn(6, 2, 5, generator=torch.Generator().manual_seed(5))
    expected = []
    for a, b in embeds:
        shares = torch.tensor([1 + cosine(a, b), 1 - cosine(a, b)]).double() / 2
        expected.append(float((-(shares * shares.log()).sum()).exp()))
    torch.testing.assert_close(
        clip_diversity(embeds, kind="vendi"), torch.tensor(expected), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("kind", ["cosine100", "l2_unit", "l2_raw", "vendi"])
def test_diversity_among_chosen_images_is_that_of_them_alone(kind: DiversityKind) -> None:
    embeds = torch.randn(4, 4, 8, generator=torch.Generator().manual_seed(1))
    embeds[3, 1] = 0  # without direction, but not chosen
    among = torch.tensor(
        [[True] * 4, [True, False, True, True], [False, False, True, False], [True, False] * 2]
    )
    result = clip_diversity(embeds, kind=kind, among=among)

    def alone(prompt: int, chosen: list[int]) -> torch.Tensor:
        return clip_diversity(embeds[prompt : prompt + 1, chosen], kind=kind)[0]

    torch.testing.assert_close(result[0], alone(0, [0, 1, 2, 3]), rtol=0, atol=ATOL)
    torch.testing.assert_close(result[1], alone(1, [0, 2, 3]), rtol=0, atol=ATOL)
    assert result[2].isnan()  # one image has no pair
    torch.testing.assert_close(result[3], alone(3, [0, 2]), rtol=0, atol=ATOL)


@pytest.mark.parametrize("kind", ["cosine100", "l2_unit", "vendi"])
def test_an_embedding_without_direction_makes_its_own_prompt_nan(kind: DiversityKind) -> None:
    embeds = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
    embeds[0, 1] = 0
    assert clip_diversity(embeds, kind=kind).isnan().tolist() == [True, False]


def test_an_unknown_kind_of_diversity_is_refused() -> None:
    with pytest.raises(AdrpoError, match="cosine100, l2_unit, l2_raw, vendi; received 'l2'"):
        clip_diversity(torch.ones(1, 2, 4), kind="l2")  # pyright: ignore[reportArgumentType]


def test_clip_diversity_ends_of_its_range() -> None:
    same = torch.randn(1, 1, 6, generator=torch.Generator().manual_seed(2)).expand(1, 3, 6)
    opposite = torch.tensor([[[1.0, 0.0], [-4.0, 0.0]]])
    orthogonal = torch.eye(4)[None]
    assert clip_diversity(same).item() == pytest.approx(0, abs=ATOL)
    assert clip_diversity(opposite).item() == pytest.approx(200, abs=ATOL)
    assert clip_diversity(orthogonal).item() == pytest.approx(100, abs=ATOL)


def test_metrics_depend_on_directions_only() -> None:
    rng = torch.Generator().manual_seed(3)
    embeds = torch.randn(3, 4, 8, generator=rng)
    lengths = torch.rand(3, 4, 1, generator=rng) * 20 + 0.1
    kinds: list[DiversityKind] = ["cosine100", "l2_unit", "vendi"]
    for kind in kinds:
        torch.testing.assert_close(
            clip_diversity(embeds * lengths, kind=kind),
            clip_diversity(embeds, kind=kind),
            rtol=0,
            atol=ATOL,
        )
    torch.testing.assert_close(
        clip_score(embeds[0] * lengths[0], embeds[1]),
        clip_score(embeds[0], embeds[1]),
        rtol=0,
        atol=ATOL,
    )


def test_half_precision_embeddings_are_scored_in_float32() -> None:
    embeds = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(4)).bfloat16()
    # Equal, not close: the conversion comes first and is exact.
    torch.testing.assert_close(
        clip_diversity(embeds), clip_diversity(embeds.float()), rtol=0, atol=0
    )
    assert clip_score(embeds[0], embeds[1]).dtype == torch.float32


def test_an_embedding_without_direction_is_nan() -> None:
    images = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert clip_score(images, torch.ones(2, 2)).isnan().tolist() == [True, False]


def test_clip_diversity_refuses_one_image_per_prompt() -> None:
    with pytest.raises(AdrpoError, match="at least 2 images per prompt; received 1"):
        clip_diversity(torch.ones(3, 1, 4))

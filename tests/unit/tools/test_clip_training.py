"""The loss terms that trained the embedded CLIP models."""

import pytest
import torch

from tools.embedded.clip import instance_loss, judged_loss

SCALE = torch.tensor(2.0, dtype=torch.float64)


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(values, dim=-1)


def test_judged_loss_is_the_mean_bradley_terry_loss_over_right_and_wrong_pairs():
    images, texts = unit(2, 3, 5), unit(2, 5, seed=1)
    right = torch.tensor([[True, False, True], [False, False, False]])
    scores = [
        [float(2 * image @ text) for image in row] for row, text in zip(images, texts, strict=True)
    ]
    pairs = [(0, 0, 1), (0, 2, 1)]  # the second caption has no right drawing and so no pair
    expected = sum(
        torch.log1p(torch.tensor(scores[p][wrong] - scores[p][good]).exp())
        for p, good, wrong in pairs
    ) / len(pairs)
    assert judged_loss(images, texts, SCALE, right) == pytest.approx(float(expected), rel=1e-6)


def test_judged_loss_raises_the_right_drawing_and_lowers_the_wrong_one():
    images = unit(1, 2, 5).requires_grad_()
    texts = unit(1, 5, seed=1)
    judged_loss(images, texts, SCALE, torch.tensor([[True, False]])).backward()
    assert images.grad is not None
    right, wrong = (images.grad[0] @ texts[0]).tolist()
    # Of equal size, since the loss reads the difference of the two scores alone.
    assert right < 0 < wrong and right == pytest.approx(-wrong)


def test_captions_without_a_pair_give_zero_loss_and_a_finite_gradient():
    images = unit(1, 2, 5).requires_grad_()
    loss = judged_loss(images, unit(1, 5, seed=1), SCALE, torch.tensor([[True, True]]))
    loss.backward()
    assert loss == 0 and images.grad is not None and (images.grad == 0).all()


def test_instance_loss_wants_the_second_view_nearer_than_another_drawing():
    one = unit(4, 8)
    near, far = instance_loss(one, one, -one, SCALE), instance_loss(one, -one, one, SCALE)
    assert near < far
    # With all views equal, picture and drawing tie among 4 + 1 candidates.
    same = one[:1].expand(4, 8)
    expected = torch.log(torch.tensor(5.0)).item()
    assert instance_loss(same, same, same, SCALE) == pytest.approx(expected)

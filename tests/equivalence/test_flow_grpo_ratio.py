"""A ratio is 1 before the first update, in every number type and micro-batch: Flow-GRPO's of
densities, and FDFO's of prediction errors."""

import pytest
import torch
from torch import Tensor

from adrpo.flow.domain import build_trainer
from adrpo.flow.training import finite_differences, flow_grpo
from support.tiny_runs import darkness, perturb, tiny_config


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("micro_batch", [4, 64])
@pytest.mark.parametrize("updates", [1, 2])
def test_the_first_ratio_is_one(
    monkeypatch: pytest.MonkeyPatch, dtype: str, micro_batch: int, updates: int
) -> None:
    """A micro-batch of 4 leaves 2 of the 6 rollouts, and of the 3 noisy steps of each of them 2 of
    18 rows, or 1 of the 9 of half of them, whose log r was 7e-4; 64 is more than there are of
    either. Guidance would double a single row to two, which rounds as four.

    The ratio's clip is 1e-4, which Flow-GRPO's authors published: log p is a mean over elements.
    """
    config = tiny_config(
        model={"dtype": dtype, "device": "cpu"},
        algorithm={"method": "flow_grpo", "updates_per_step": updates},
        sampling={"steps": 4},
        training={"micro_batch_size": micro_batch},
    )
    trainer = build_trainer(config, reward=darkness)
    perturb(trainer.policy)  # type: ignore[arg-type]
    ratios: list[Tensor] = []
    own = flow_grpo.clipped_surrogate

    def kept(log_ratio: Tensor, advantages: Tensor, *, clip_range: float) -> Tensor:
        ratios.append(log_ratio.detach())
        return own(log_ratio, advantages, clip_range=clip_range)

    monkeypatch.setattr(flow_grpo, "clipped_surrogate", kept)
    trainer.step(1)
    found = torch.cat(ratios)
    assert len(found) == 18
    # Rows of later updates are those of a policy that has moved.
    first = found[: 18 // updates]
    # log p is a mean of squares of size 1, in float32.
    assert first.abs().max() <= 4 * torch.finfo(torch.float32).eps
    if updates == 2:
        assert found[9:].abs().max() > 1e-5, "the ratio says nothing here"


@pytest.mark.parametrize(("dtype", "micro_batch"), [("float32", 64), ("bfloat16", 5)])
def test_the_first_ratio_of_pairs_is_one(
    monkeypatch: pytest.MonkeyPatch, dtype: str, micro_batch: int
) -> None:
    """A micro-batch of 5 leaves 3 of the 8 rollouts, and 1 of the 16 points of half of them."""
    config = tiny_config(
        model={"dtype": dtype, "device": "cpu"},
        algorithm={"method": "fdfo", "updates_per_step": 2},
        sampling={"steps": 4},
        training={"micro_batch_size": micro_batch, "samples_per_prompt": 4},
    )
    trainer = build_trainer(config, reward=darkness)
    perturb(trainer.policy)  # type: ignore[arg-type]
    ratios: list[Tensor] = []
    own = finite_differences.difference_surrogate

    def kept(log_ratio: Tensor, advantages: Tensor, *, clip_range: float) -> Tensor:
        ratios.append(log_ratio.detach())
        return own(log_ratio, advantages, clip_range=clip_range)

    monkeypatch.setattr(finite_differences, "difference_surrogate", kept)
    trainer.step(1)
    found = torch.cat(ratios)
    assert len(found) == 32
    # One call computes v and v_old: a rounding of v, if any, times |g| of some 10.
    assert found[:16].abs().max() <= 100 * torch.finfo(torch.float32).eps
    assert found[16:].abs().max() > 1e-4, "the ratio says nothing here"

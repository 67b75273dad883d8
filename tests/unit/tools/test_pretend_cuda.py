"""tools/pretend_cuda.py refuses, moves and waits where CUDA does."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from tools.pretend_cuda import PretendCuda, places


@pytest.fixture
def gpu() -> Iterator[PretendCuda]:
    with PretendCuda() as found:
        yield found


def test_a_tensor_lies_where_it_was_made_or_moved(gpu: PretendCuda):
    x = torch.ones(3, device="cuda")
    assert x.is_cuda and (x + 1).view(3, 1).is_cuda and x.new_zeros(2).is_cuda
    assert torch.ones(3).device.type == "cpu" and x.cpu().device.type == "cpu"
    y = torch.ones(3)
    assert y.to("cuda:0").is_cuda and not y.is_cuda
    assert y.to(x).is_cuda and y.cuda().bfloat16().is_cuda and not x.to(y).is_cuda
    with torch.device("cuda"):
        assert nn.Linear(2, 2).weight.is_cuda
    moved = nn.Linear(2, 2).to("cuda", torch.bfloat16)
    moved(x[:2].bfloat16()).sum().backward()
    assert moved.weight.dtype == torch.bfloat16
    assert moved.weight.grad is not None and moved.weight.grad.is_cuda


@pytest.mark.parametrize(
    "mixed",
    [
        lambda x, y: x + y,
        lambda x, y: torch.cat([x, y]),
        lambda x, y: nn.functional.linear(x, y.view(1, 3)),
        lambda x, y: x.where(x > 0, y),
        lambda x, y: y[(x * 0).long()],
        lambda x, y: x.__setitem__(slice(2), y[:2].long().bool()),
        lambda x, y: y.add_(x),
        lambda x, y: x.numpy(),
        lambda x, y: torch.randn(3, device="cuda", generator=torch.Generator()),
    ],
)
def test_what_cuda_refuses_is_refused(gpu: PretendCuda, mixed: Callable[[Tensor, Tensor], object]):
    """But for a slice that is filled, which copies."""
    x, y = torch.ones(3, device="cuda"), torch.ones(3)
    try:
        mixed(x, y)
    except (RuntimeError, IndexError, TypeError):
        return
    assert [wait.why for wait in gpu.waits] == ["copy to the GPU"]


@pytest.mark.parametrize(
    ("work", "waits"),
    [
        (lambda x: x * 2 + x.sum() * torch.tensor(3.0), 0),
        (lambda x: x.masked_fill(x > 0, 1), 0),
        (lambda x: x.__setitem__(x > 0, 1.0), 0),
        (lambda x: x[torch.arange(2, device="cuda")], 0),
        (lambda x: float(x.sum()), 1),
        (lambda x: bool(x.any()), 1),
        (lambda x: x.tolist(), 1),
        (lambda x: x.cpu(), 1),
        (lambda x: x.to("cuda"), 0),
        (lambda x: torch.ones(3).to("cuda"), 1),
        (lambda x: x.copy_(torch.ones(3)), 1),
        (lambda x: x.nonzero(), 1),
        (lambda x: x[x > 0], 1),
        (lambda x: x[torch.arange(2)], 1),
        (lambda x: torch.cuda.synchronize(), 1),
    ],
)
def test_the_host_waits_for_copies_and_values(
    gpu: PretendCuda, work: Callable[[Tensor], object], waits: int
):
    x = torch.ones(3, device="cuda")
    gpu.waits.clear()
    work(x)
    assert len(gpu.waits) == waits, [wait.why for wait in gpu.waits]


def test_a_wait_has_its_place(gpu: PretendCuda):
    x = torch.ones(3, device="cuda")
    gpu.waits.clear()
    for _ in range(2):
        x.tolist()
    ((file, function, _), count), *others = places(gpu.waits, "/tests/").items()
    assert (file, function, count) == ("unit/tools/test_pretend_cuda.py",
                                       "test_a_wait_has_its_place", 2)  # fmt: skip
    assert not others


def test_afterwards_devices_are_torch_s_own():
    with PretendCuda():
        x = torch.ones(3, device="cuda")
    assert x.device.type == "cpu" and (x + torch.ones(3)).tolist() == [2, 2, 2]

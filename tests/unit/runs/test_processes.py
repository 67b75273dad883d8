"""Shares of a batch, what processes tell each other, and which launches are refused.

The processes are threads here; tests/equivalence/test_several_processes.py has real ones.
"""

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from PIL import Image

from adrpo.data.base import Prompt
from adrpo.errors import AdrpoError
from adrpo.flow.domain import build_trainer
from adrpo.flow.path.path_samples import sample_path
from adrpo.flow.training import loop
from adrpo.rewards.base import RewardTerm
from adrpo.rewards.scoring import score_together
from adrpo.runs.processes import ALONE, Processes, Share, join_processes
from support.tiny_runs import tiny_config


@dataclass(frozen=True, kw_only=True)
class Thread(Processes):
    """A process that is a thread: it gathers through a list that all of them see."""

    box: list[Any]
    barrier: threading.Barrier
    exchanges: list[None] = field(default_factory=list)

    def _all_gather(self, item: Any) -> list[Any]:
        self.exchanges.append(None)
        self.box[self.rank] = item
        self.barrier.wait()
        answers = list(self.box)
        self.barrier.wait()  # nobody writes the next item before all have read this one
        return answers


def together(count: int, work: Callable[[Thread], Any]) -> list[Any]:
    """What ``work`` returns in each of ``count`` processes, or the AdrpoError that it raises."""
    box, barrier = [None] * count, threading.Barrier(count, timeout=10)

    def run(rank: int) -> Any:
        try:
            return work(Thread(rank=rank, count=count, box=box, barrier=barrier))
        except AdrpoError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_gradients_are_added_up(monkeypatch: pytest.MonkeyPatch):
    """One that a process lacks counts as 0, and one that all lack stays away."""
    barrier, parts = threading.Barrier(2, timeout=10), {}

    def all_reduce(total: torch.Tensor) -> None:
        parts[threading.get_ident()] = total.clone()
        barrier.wait()
        total.copy_(torch.stack(list(parts.values())).sum(0))

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)

    def work(process: Thread) -> list[Any]:
        first, second, third = (torch.nn.Parameter(torch.zeros(n)) for n in (2, 3, 1))
        first.grad = torch.tensor([[1.0, 2.0], [10.0, 20.0]])[process.rank]
        if process.rank == 1:
            second.grad = torch.arange(3.0)
        process.sum_gradients([first, second, third])
        assert third.grad is None
        return [
            parameter.grad.tolist() for parameter in (first, second) if parameter.grad is not None
        ]

    assert together(2, work) == [[[11.0, 22.0], [0.0, 1.0, 2.0]]] * 2


@pytest.mark.parametrize(("total", "count"), [(6, 2), (9, 2), (7, 3), (3, 3), (64, 5)])
def test_shares_are_the_batch_in_order(total: int, count: int):
    batch = torch.arange(total)
    parts = [Processes(rank=r, count=count).share(total, "rows").of(batch) for r in range(count)]
    assert torch.equal(torch.cat(parts), batch)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    gathered = together(count, lambda p: p.gather_rows(p.share(total, "rows").of(batch)))
    assert all(torch.equal(rows, batch) for rows in gathered)


def test_more_processes_than_rows_are_refused():
    with pytest.raises(AdrpoError, match=r"samples a step: .* each of 4 processes; received 3"):
        Processes(rank=1, count=4).share(3, "samples a step")


def test_a_share_of_another_batch_is_refused():
    with pytest.raises(ValueError, match="batch of 6 rows, received 5"):
        Share(0, 3, 6).of(torch.zeros(5))


@pytest.mark.parametrize("sampling", ["stratified", "uniform", "logit_normal"])
def test_the_points_of_a_sample_do_not_depend_on_the_number_of_processes(sampling: Any):
    x_1 = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))

    def points(share: Share | None, x_1: torch.Tensor) -> Any:
        draws = torch.Generator().manual_seed(1)
        return sample_path(x_1, draws, timesteps=3, sampling=sampling, share=share)

    whole = points(None, x_1)
    shares = ALONE.shares(5, "rows") + Processes(count=2).shares(5, "rows")
    for share in shares:
        own, rows = points(share, share.of(x_1)), share.times(3)
        for name in ("t", "x_t", "u_t"):
            assert torch.equal(getattr(own, name), rows.of(getattr(whole, name)))


@pytest.mark.parametrize("others", [0, 3])
def test_all_processes_fail_with_the_error_of_one(others: int):
    """Met at the next gather, or at the end by those that gather nothing any more."""

    def work(processes: Thread) -> None:
        with processes.failing_together():
            processes.gather("begun")
            if processes.rank == 1:
                raise AdrpoError("the disk is full")
            for _ in range(others):
                processes.gather("more")

    errors = together(3, work)
    assert [str(error) for error in errors] == ["the disk is full"] * 3


def test_a_block_within_another_tells_an_error_once():
    def work(processes: Thread) -> None:
        with processes.failing_together():
            with processes.failing_together():
                if processes.rank == 1:
                    raise AdrpoError("the disk is full")
            processes.gather("never reached")

    errors = together(3, work)
    assert [str(error) for error in errors] == ["the disk is full"] * 3


def test_an_error_of_all_processes_is_that_of_each():
    def work(processes: Thread) -> None:
        with processes.failing_together():
            raise AdrpoError(f"{processes.count} processes see it")

    assert [str(error) for error in together(2, work)] == ["2 processes see it"] * 2


def image(shade: int) -> Image.Image:
    return Image.new("RGB", (2, 2), (shade,) * 3)


def shade(image: Image.Image) -> float:
    return float(image.getpixel((0, 0))[0])  # type: ignore[index]


def above_the_others(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
    """Compares the images of a prompt, and leaves black ones without a score."""
    assert prompts, "a reward is never asked for nothing"
    of = {p: [shade(i) for q, i in zip(prompts, images, strict=True) if q == p] for p in prompts}
    return [
        shade(i) - min(of[p]) if shade(i) else None for p, i in zip(prompts, images, strict=True)
    ]


@pytest.mark.parametrize(
    "texts",
    [
        "aaaabbbcccc",  # of 3 processes' 3, 4 and 4 rows: two prompts are torn
        "aaaaaaaaaaa",  # one prompt, that all processes hold
        "aabbccddeea",  # an epoch's end: a prompt that comes twice
        "aaabbbbcccc",  # whole prompts everywhere
    ],
)
def test_scores_are_those_of_one_process(texts: str):
    # Rows of one text are compared with each other, whatever columns tell them apart.
    prompts = [Prompt(t, f"category {t}", {"row": row}) for row, t in enumerate(texts)]
    images = [image(37 * row % 101) for row in range(len(texts))]
    asked = []

    def wanted(
        prompts: list[str], images: list[Image.Image], category: list[str], row: list[int]
    ) -> list[float | None]:
        asked.extend(zip(row, category, map(shade, images), strict=True))
        return above_the_others(prompts, images)

    terms = [RewardTerm("above", 2.0, wanted)]
    alone = score_together(ALONE, terms, images, prompts)
    assert alone.total.isnan().tolist() == [True] + [False] * 10  # the first image is black
    asked.clear()

    def work(processes: Thread) -> Any:
        own = processes.share(len(prompts), "samples").of(images)
        return score_together(processes, terms, own, prompts), len(processes.exchanges)

    for result, exchanges in together(3, work):
        torch.testing.assert_close(result.total, alone.total, rtol=0, atol=0, equal_nan=True)
        above = result.by_term["above"]
        torch.testing.assert_close(above, alone.by_term["above"], rtol=0, atol=0, equal_nan=True)
        # Scores always; images only where a prompt is torn.
        assert exchanges == (1 if texts == "aaabbbbcccc" else 2)
    shades = map(shade, images)
    assert sorted(asked) == [(row, f"category {texts[row]}", s) for row, s in enumerate(shades)]


def test_whole_pairs_are_scored_where_they_are():
    """Three pairs, of which two processes have one and two."""
    prompts = [Prompt(text, "") for text in "aaaabb"]
    images = [image(37 * row % 101) for row in range(6)]
    terms = [RewardTerm("above", 1.0, above_the_others)]
    alone = score_together(ALONE, terms, images, prompts, unit=2)

    def work(processes: Thread) -> Any:
        own = processes.share(3, "pairs").times(2).of(images)
        assert len(own) == (2, 4)[processes.rank]
        return score_together(processes, terms, own, prompts, unit=2)

    for result in together(2, work):
        torch.testing.assert_close(result.total, alone.total, rtol=0, atol=0, equal_nan=True)


def test_the_first_error_of_a_reward_reaches_all_processes():
    def absent(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
        if prompts == ["b"]:
            raise RuntimeError("the judge is away")
        return [1.0] * len(prompts)

    prompts = [Prompt("a", ""), Prompt("b", "")]
    terms = [RewardTerm("judge", 1.0, absent)]
    results = together(2, lambda p: score_together(p, terms, [image(1)], prompts))
    for result in results:
        assert re.fullmatch(
            r"judge: RuntimeError: the judge is away \(test_processes\.py, line \d+\)",
            str(result.first_error),
        )
        assert result.total.isnan().tolist() == [False, True]


@pytest.mark.parametrize(
    ("variable", "value", "device", "message"),
    [
        ("FSDP_VERSION", "1", "auto", "expected fsdp_version: 2; received 1; use .*fsdp2.yaml"),
        ("FSDP_OFFLOAD_PARAMS", "True", "auto", "fsdp_offload_params: false; received True"),
        ("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2", "auto", "zero_stage: 3; received 2; use .*zero3"),
        (
            "ACCELERATE_DEEPSPEED_CONFIG_FILE",
            "My.json",
            "auto",
            "config_file: none; received My.json",
        ),
        ("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "cpu", "auto", "expected offload_param_dev"),
        ("ACCELERATE_USE_MEGATRON_LM", "true", "auto", "received Megatron-LM"),
        ("ACCELERATE_MIXED_PRECISION", "bf16", "auto", "mixed_precision no; received bf16"),
        ("ACCELERATE_MIXED_PRECISION", "no", "cuda:1", r"model\.device: .* received cuda:1"),
    ],
)
def test_launches_that_are_not_supported_are_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, device: str, message: str
):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for engine in ("FSDP", "DEEPSPEED"):
        if variable.removeprefix("ACCELERATE_").startswith(engine):
            monkeypatch.setenv(f"ACCELERATE_USE_{engine}", "true")
    monkeypatch.setenv(variable, value)
    with pytest.raises(AdrpoError, match=message):
        join_processes(device)


def test_shards_need_equal_shares():
    wanted = r"samples: expected a multiple of 2, .* with FSDP2, .* received 5"
    with pytest.raises(AdrpoError, match=wanted):
        Processes(rank=0, count=2, engine="FSDP2").share(5, "samples")
    assert Processes(rank=1, count=2, engine="FSDP2").share(6, "samples") == Share(3, 6, 6)
    assert Processes(rank=1, count=2).share(5, "samples") == Share(2, 5, 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": {"method": "flow_grpo"}}, r"algorithm\.method: .* received flow_grpo"),
        ({"algorithm": {"method": "dpo"}}, r"algorithm\.method: .* received dpo"),
        ({}, r"model\.gradient_checkpointing: expected true with ZeRO-3; received false"),
        ({"model": {"compile": True}}, r"model\.compile: expected false with ZeRO-3; received"),
    ],
)
def test_what_shards_cannot_do_is_refused(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], message: str
):
    monkeypatch.setattr(
        loop, "join_processes", lambda device: Processes(rank=0, count=2, engine="ZeRO-3")
    )
    with pytest.raises(AdrpoError, match=message):
        build_trainer(tiny_config(**settings))


def test_a_process_that_nothing_launched_is_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    # transformers' TrainingArguments sets this one in a process of its own.
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert join_processes("auto") == ALONE

"""Prompts with sizes of their own: each image has its prompt's, and a step has one."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adrpo.config import FlowConfig, SamplingSection
from adrpo.data import Prompt
from adrpo.errors import AdrpoError
from adrpo.evaluation.best_of_n import best_of_n
from adrpo.evaluation.playing import Asked
from adrpo.flow.domain import DOOR, build_trainer
from adrpo.flow.memory.advice import memory_lines
from adrpo.flow.models.conditioning import Conditioning
from adrpo.flow.models.pipeline_sampler import PipelineSampler
from adrpo.flow.models.prompt_set import PromptSet, check_one_size
from adrpo.flow.path.draws import PromptOrder, prompt_order
from support.tiny_pipelines import FAMILIES, Family, stable_diffusion_3
from support.tiny_runs import (
    adapter_bytes,
    darkness,
    metrics_without_timings,
    random_sd3,
    tiny_config,
    whole_and_resumed,
)

WIDE, TALL = (16, 24), (32, 16)
"""Height and width: those of the settings, and others with another number of tokens."""
METHODS: dict[str, dict[str, Any]] = {
    "adrpo": {},
    "flow_grpo": {"method": "flow_grpo", "updates_per_step": 2},
    "fdfo": {"method": "fdfo", "updates_per_step": 2},
}


def written(path: Path, sizes: list[tuple[int, int] | None], kind: str) -> str:
    """A file of prompts with these sizes; None has none."""
    lines = [
        {"prompt": f"{kind} number {number}", "height": size and size[0], "width": size and size[1]}
        for number, size in enumerate(sizes)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def sized_config(
    folder: Path,
    train: list[tuple[int, int] | None],
    held_out: list[tuple[int, int] | None],
    method: str = "adrpo",
    **sections: Any,
) -> FlowConfig:
    folder.mkdir(exist_ok=True)
    prompts = {
        "train": written(folder / "train.jsonl", train, "seen"),
        "held_out": written(folder / "held_out.jsonl", held_out, "unseen"),
    }
    return tiny_config(
        algorithm=METHODS[method],
        prompts=prompts,
        sampling={"steps": 3},
        training={"steps": 4, "samples_per_prompt": 2, "micro_batch_size": 3},
        **sections,
    )


def of_size(height: int, width: int) -> dict[str, Any]:
    """Section ``model`` with another size."""
    return random_sd3() | {"height": height, "width": width}


def picture(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image, int)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_policy_draws_another_size_as_the_pipelines_call_does(name: str) -> None:
    """The times, positions and packing are those of the noise's size."""
    family: Family = FAMILIES[name]
    policy = family.policy()
    other = replace(family, height=2 * family.height, width=family.width)
    shape = policy.shape_of(other.height, None)
    assert shape != policy.latent_shape and shape[0] == policy.latent_shape[0]
    prompts = ["a cat", "two blue birds on a wire"]
    draws = torch.Generator().manual_seed(7)
    x_0 = torch.randn((2, *shape), generator=draws)
    sampling = SamplingSection(steps=3, guidance_scale=3.0)
    images = policy.decode(policy.sample(x_0, policy.encode(prompts), sampling))
    theirs = other.call(
        policy.pipeline,
        prompts,
        3.0,
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(7),
    )
    for ours, image in zip(images, theirs, strict=True):
        assert ours is not None and ours.size == (other.width, other.height)
        # Eight bits: a level where a value is just between.
        assert np.abs(np.asarray(ours, int) - np.asarray(image, int)).max() <= 1


@pytest.mark.parametrize("method", METHODS)
def test_one_size_in_the_column_is_that_size_in_the_settings(method: str, tmp_path: Path) -> None:
    none: list[tuple[int, int] | None] = [None] * 4
    tall: list[tuple[int, int] | None] = [TALL] * 4

    def run(name: str, sizes: list[tuple[int, int] | None], **sections: Any) -> tuple[Any, ...]:
        config = sized_config(tmp_path / name, sizes, sizes, method, **sections)
        path = build_trainer(config, reward=darkness).train(tmp_path / name / "run", progress=False)
        evaluations = (path / "evaluations.jsonl").read_text()
        pictures = [file.read_bytes() for file in sorted(path.rglob("*.png"))]
        return metrics_without_timings(path), adapter_bytes(path), evaluations, pictures

    by_settings = run("settings", none, model=of_size(*TALL))
    assert len(by_settings[3]) > 8
    assert run("column", tall) == by_settings
    assert run("neither", none)[1] != by_settings[1]


MIXED: list[tuple[int, int] | None] = [TALL, None, TALL, None, WIDE, TALL]


@pytest.mark.parametrize("method", METHODS)
def test_each_step_of_two_sizes_is_one_of_its_size_alone(method: str, tmp_path: Path) -> None:
    config = sized_config(tmp_path / "mixed", MIXED, [TALL], method)
    seen: list[Any] = []
    steps = (1, 2, 3)
    sizes: set[Any] = set()
    for step in steps:
        mixed = build_trainer(config, reward=darkness)
        row = mixed.step(step)
        places = mixed.order.of(step)
        (size,) = {MIXED[place] or WIDE for place in places}
        sizes.add(size)
        of_one = sized_config(tmp_path / "one", [None] * 6, [None], method, model=of_size(*size))
        alone = build_trainer(of_one, reward=darkness)
        alone.order = mixed.order
        expected = alone.step(step)
        timed = {name for name in row if "seconds" in name or "per_second" in name}
        assert {k: v for k, v in row.items() if k not in timed} == {
            k: v for k, v in expected.items() if k not in timed
        }
        ours, theirs = (trainer.policy.adapter_state() for trainer in (mixed, alone))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
        seen.append(row["loss"])
    assert sizes == {WIDE, TALL} and len(set(seen)) == len(steps)


def test_every_image_of_a_run_has_its_prompts_size(tmp_path: Path) -> None:
    held_out: list[tuple[int, int] | None] = [None, TALL, WIDE, TALL]
    config = sized_config(
        tmp_path, MIXED, held_out, evaluation={"batch_size": 3, "strip_prompts": 4}
    )
    found: dict[str, set[Any]] = {}

    def reward(prompts: list[str], images: list[Image.Image], **columns: Any) -> list[Any]:
        for prompt, image in zip(prompts, images, strict=True):
            found.setdefault(prompt, set()).add(image.size[::-1])
        return darkness(prompts, images)

    trainer = build_trainer(config, reward=reward)
    path = trainer.train(tmp_path / "run", progress=False)
    expected = {f"unseen number {n}": {size or WIDE} for n, size in enumerate(held_out)}
    expected |= {f"seen number {n}": {size or WIDE} for n, size in enumerate(MIXED)}
    assert found == expected
    for place, size in enumerate(held_out):
        for file in path.rglob(f"*/{place:02d}-?.png"):
            assert picture(file).shape[:2] == (size or WIDE)
        for file in path.rglob(f"strip-{place:02d}.png"):
            assert picture(file).shape[:2] == (size or WIDE)
    # Selection among draws, whose latents have several shapes, too.
    chosen = best_of_n(trainer.evaluator, [1, 2])
    assert chosen.by_reward[2]["reward"].mean() > chosen.by_reward[1]["reward"].mean()


def test_an_evaluations_noise_is_of_the_image_whatever_size_others_have(tmp_path: Path) -> None:
    def drawn(name: str, sizes: list[tuple[int, int] | None]) -> Any:
        trainer = build_trainer(sized_config(tmp_path / name, [None], sizes), reward=darkness)
        drawing = trainer.evaluator.drawing
        return drawing, drawing.draw()

    drawing, mixed = drawn("mixed", [None, TALL, None, TALL])
    _, wide = drawn("wide", [None] * 4)
    _, tall = drawn("tall", [TALL] * 4)
    assert [len(own) for own in drawing.buckets.values()] == [4, 4]
    for row, x_1 in enumerate(mixed.x_1):
        same = tall if row // 2 % 2 else wide
        # float32 sums in another order in a batch of another size.
        torch.testing.assert_close(x_1, same.x_1[row], rtol=0, atol=1e-4)
    values = drawing.measure(mixed)
    alone = build_trainer(sized_config(tmp_path / "t", [None], [TALL] * 4), reward=darkness)
    assert values["divergence"].shape == (4, 2)
    # Under no adapter the policy is its base.
    assert (values["velocity_norm_ratio"] == 1).all()
    parameters = (drawing.policy, alone.policy)
    for policy in parameters:
        for parameter in policy.adapter_parameters():
            parameter.data += 0.3
    other = alone.evaluator.drawing
    expected = other.measure(other.draw())["divergence"]
    found = drawing.measure(drawing.draw())["divergence"]
    np.testing.assert_allclose(found[[1, 3]], expected[[1, 3]], rtol=1e-3)
    assert (found > 0).all()


def test_a_run_of_two_sizes_goes_on_bit_for_bit(tmp_path: Path) -> None:
    config = sized_config(tmp_path, MIXED, [TALL, None], "flow_grpo")
    whole_and_resumed(config, darkness, tmp_path)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert metrics_without_timings(whole) == metrics_without_timings(stopped)
    assert adapter_bytes(whole) == adapter_bytes(stopped)


@pytest.mark.parametrize("per_step", [1, 3, 4])
def test_prompts_take_turns_within_their_size(per_step: int) -> None:
    alike = ["a"] * 7 + ["b"] * 3
    order = PromptOrder(alike, per_step=per_step, seed=5)
    steps = [order.of(step) for step in range(1, 101)]
    assert {len(step) for step in steps} == {per_step}
    assert all(len({alike[place] for place in step}) == 1 for step in steps)
    counts = Counter(place for step in steps for place in step)
    # At most an epoch and a step behind the first.
    assert max(counts.values()) - min(counts[place] for place in range(10)) <= 1 + per_step // 3
    # Any step on its own, and the order of one size alone.
    assert PromptOrder(alike, per_step=per_step, seed=5).of(57) == steps[56]
    one = PromptOrder(["a"] * 10, per_step=per_step, seed=5)
    for step in range(1, 30):
        assert one.of(step) == prompt_order(step, prompts=10, per_step=per_step, seed=5)
    assert PromptOrder(alike, per_step=per_step, seed=6).of(1) != steps[0]


def test_sample_and_play_draw_each_prompt_in_its_size(tmp_path: Path) -> None:
    sizes: list[tuple[int, int] | None] = [TALL, None, TALL]
    config = sized_config(tmp_path, [None], sizes)
    list(DOOR.sample(config, None, [], size=3, seed=3, output_dir=tmp_path / "out"))
    ours = [picture(tmp_path / "out" / f"{n:03d}.png") for n in range(3)]
    assert [image.shape[:2] for image in ours] == [size or WIDE for size in sizes]
    # The noise of a place is what it is among prompts of its size alone.
    of_one = sized_config(tmp_path / "one", [None], [None] * 3, model=of_size(*TALL))
    list(DOOR.sample(of_one, None, [], size=3, seed=3, output_dir=tmp_path / "one" / "out"))
    for place in (0, 2):
        alone = picture(tmp_path / "one" / "out" / f"{place:03d}.png")
        assert np.abs(alone - ours[place]).max() <= 1
    with DOOR.player(config) as player:  # type: ignore[attr-defined]
        played = [player.base(Asked(prompt=f"unseen number {n}", seed=3)).sample for n in range(3)]
        own = player.base(Asked(prompt="another")).sample
    assert [image.size[::-1] for image in played] == [size or WIDE for size in sizes]
    assert own.size[::-1] == WIDE
    # A prompt of a run's own by its words, too, with the noise of one prompt.
    known = [Prompt("unseen number 0", columns={"height": 32, "width": 16})]
    list(
        DOOR.sample(
            config, None, ["unseen number 0"], size=1, seed=3,
            output_dir=tmp_path / "own", held_out=known,
        )
    )  # fmt: skip
    found = picture(tmp_path / "own" / "000.png")
    assert np.abs(found - np.asarray(played[0], int)).max() <= 1


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("height", 20.5, "a whole number of pixels in the column height"),
        ("width", -4, "a whole number of pixels in the column width"),
        ("width", "wide", "a whole number of pixels in the column width"),
        ("height", True, "a whole number of pixels in the column height"),
        ("height", [8], "a whole number of pixels in the column height"),
        ("height", float("inf"), "a whole number of pixels in the column height"),
        ("height", 18, "the column height: expected a multiple of 4 pixels for StableDiffusion3"),
        ("width", 512, "the column width: expected at most 64 pixels for StableDiffusion3"),
    ],
)
def test_a_size_that_cannot_be_drawn_is_named(
    column: str, value: Any, expected: str, tmp_path: Path
) -> None:
    config = sized_config(tmp_path, [None], [None])
    line = json.dumps({"prompt": "a hen", column: value})
    (tmp_path / "train.jsonl").write_text(line + "\n")
    with pytest.raises(AdrpoError, match=expected):
        build_trainer(config, reward=darkness)


@pytest.mark.parametrize("value", [32, 32.0, "32", " 32 "])
def test_a_size_may_be_written_as_a_table_has_it(value: Any, tmp_path: Path) -> None:
    policy = FAMILIES["sd3"].policy()
    prompts = [Prompt("a", columns={"height": value, "width": ""}), Prompt("b")]
    assert PromptSet.encoded(policy, prompts).shapes == ((4, 16, 12), (4, 8, 12))


def test_what_has_one_size_refuses_others(tmp_path: Path) -> None:
    config = sized_config(tmp_path, MIXED, [None])
    dpo = config.model_copy(
        update={"algorithm": tiny_config(algorithm={"method": "dpo"}).algorithm}
    )
    with pytest.raises(AdrpoError, match=r"algorithm\.method: expected one that draws anew .* dpo"):
        build_trainer(dpo, reward=darkness)
    sets = [PromptSet([Prompt("a")], Conditioning(a=torch.ones(1)), [s]) for s in [(4, 8), (4, 6)]]
    check_one_size(sets[:1] * 2, "FSDP2")
    with pytest.raises(AdrpoError, match=r"images of one size with FSDP2, .* received 2 sizes"):
        check_one_size(sets, "FSDP2")
    sampler = PipelineSampler(stable_diffusion_3(with_t5=False), height=16, width=24)
    assert PromptSet.encoded(sampler, [Prompt("a", columns={"height": 16})]).shapes == ((2,),)
    with pytest.raises(AdrpoError, match=r"column height: expected 16, .* one size; received 32"):
        PromptSet.encoded(sampler, [Prompt("a", columns={"height": 32})])


def test_doctor_counts_the_largest_size(tmp_path: Path) -> None:
    lines: Callable[..., list[str]] = memory_lines
    config = tiny_config(model={"pretrained": "embedded", "device": "cpu"})
    larger = tiny_config(
        model={"pretrained": "embedded", "device": "cpu", "height": 128, "width": 96}
    )
    expected = lines(larger, 3, 1e9)
    assert lines(config, 3, 1e9, {(None, None), (128, 96), (96, 96), (32, 128)}) == expected
    assert lines(config, 3, 1e9, {(None, None), (32, 32)}) == lines(config, 3, 1e9) != expected

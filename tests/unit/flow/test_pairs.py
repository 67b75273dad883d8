"""Preference pairs: what is drawn, what is read, and what is refused."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adrpo.config import DpoSection, SamplingSection
from adrpo.data import Prompt
from adrpo.data.identity import digest
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.flow.training.dpo import DPOTrainer
from adrpo.flow.training.pairs import Pair, check_images, draw_pairs, load_latents, read_pairs
from adrpo.rewards import RewardTerm
from adrpo.runs import RunDirectory
from support.tiny_runs import tiny_config

SETTINGS = DpoSection(method="dpo", pairs_samples=3)


class GrayPolicy:
    """Draws plain images whose shade is the noise's own number."""

    latent_shape = (1,)

    def __init__(self) -> None:
        self.shades: list[int] = []

    def encode(self, prompts: Sequence[str]) -> None:
        return None

    def sample(self, x_0: torch.Tensor, conditioning: None, sampling: SamplingSection) -> Any:
        return (40 * x_0.flatten() + 128).clamp(0, 255).to(torch.uint8)

    def decode(self, x_1: torch.Tensor) -> list[Image.Image]:
        self.shades += x_1.tolist()
        return [Image.new("RGB", (4, 4), (shade,) * 3) for shade in x_1.tolist()]

    def reference(self) -> Any:
        return torch.no_grad()


def shade(image: Image.Image) -> float:
    return float(image.getpixel((0, 0))[0])  # type: ignore[index]


def draw(folder: Path, reward: Any, prompts: int = 4) -> GrayPolicy:
    policy = GrayPolicy()
    terms = [RewardTerm("reward", 1.0, reward)]
    texts = [Prompt(f"prompt {i}", "") for i in range(prompts)]
    draw_pairs(folder, policy, terms, texts, SETTINGS, SamplingSection(), seed=0)  # type: ignore[arg-type]
    return policy


def brightness(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
    return [shade(image) for image in images]


def test_a_pair_is_the_best_and_the_worst_of_its_prompt(tmp_path: Path):
    policy = draw(tmp_path / "pairs", brightness)
    groups = [policy.shades[i : i + 3] for i in range(0, 12, 3)]
    pairs = read_pairs(tmp_path / "pairs")
    assert [pair.prompt for pair in pairs] == [f"prompt {i}" for i in range(4)]
    for pair, group in zip(pairs, groups, strict=True):
        assert shade(Image.open(pair.chosen)) == max(group)
        assert shade(Image.open(pair.rejected)) == min(group)


def test_an_unscored_image_is_in_no_pair_and_equal_rewards_make_none(tmp_path: Path):
    def picky(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
        values: list[float | None] = [shade(image) for image in images]
        values[0] = None  # of the first prompt
        return [1.0 if p == "prompt 1" else v for p, v in zip(prompts, values, strict=True)]

    told = "^pairs: 1 of 9 images have no score and are in no pair$"
    with pytest.warns(AdrpoWarning, match=told):
        policy = draw(tmp_path / "pairs", picky, prompts=3)
    pairs = read_pairs(tmp_path / "pairs")
    assert [pair.prompt for pair in pairs] == ["prompt 0", "prompt 2"]
    assert shade(Image.open(pairs[0].chosen)) == max(policy.shades[1:3])
    assert shade(Image.open(pairs[0].rejected)) == min(policy.shades[1:3])


def test_the_best_of_a_prompt_may_be_that_of_normalised_terms(tmp_path: Path):
    """Two images are told apart by the term of weight 2, whatever the other's unit."""

    def darkness(images: list[Image.Image], **_: Any) -> list[float | None]:
        return [-1e4 * shade(image) for image in images]

    terms = [RewardTerm("bright", 2.0, brightness), RewardTerm("dark", 1.0, darkness)]
    settings, best = SETTINGS.model_copy(update={"pairs_samples": 2}), {}
    for name in ("none", "group"):
        policy: Any = GrayPolicy()
        draw_pairs(
            tmp_path / name, policy, terms, [Prompt("p", "")], settings, SamplingSection(),
            seed=0, normalization=name,
        )  # fmt: skip
        (pair,) = read_pairs(tmp_path / name)
        best[name] = shade(Image.open(pair.chosen))
    assert best == {"none": min(policy.shades), "group": max(policy.shades)}


def test_the_error_of_a_reward_that_left_images_out_is_told(tmp_path: Path):
    def fussy(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
        if "prompt 1" in prompts:
            raise RuntimeError("no such prompt")
        return [shade(image) for image in images]

    told = (
        r"^pairs: 3 of 6 images have no score and are in no pair \(reward: RuntimeError: no such "
        r"prompt \(test_pairs\.py, line \d+\)\)$"
    )
    with pytest.warns(AdrpoWarning, match=told):
        draw(tmp_path / "pairs", fussy, prompts=2)


def test_pairs_that_are_there_are_not_drawn_again(tmp_path: Path):
    draw(tmp_path / "pairs", brightness)
    assert draw(tmp_path / "pairs", brightness).shades == []


def test_a_reward_without_differences_is_refused(tmp_path: Path):
    with pytest.raises(AdrpoError, match="expected prompts whose images differ in reward"):
        draw(tmp_path / "pairs", lambda **samples: [1.0] * len(samples["prompts"]))
    assert not (tmp_path / "pairs" / "pairs.jsonl").exists()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{", "line 1: expected an object .* received text that is not JSON"),
        ('{"prompt": "p", "chosen": "a.png"}', "line 1: expected an object"),
        ('{"prompt": " ", "chosen": "a.png", "rejected": "a.png"}', "line 1: expected an object"),
        (
            '{"prompt": "p", "chosen": "a.png", "rejected": "b.png"}',
            r"line 1: expected an image file; .*b\.png does not exist",
        ),
        ("\n", "expected at least one pair, received an empty file"),
    ],
)
def test_a_bad_listing_names_its_line(tmp_path: Path, line: str, expected: str):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "pairs.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(AdrpoError, match=expected):
        read_pairs(tmp_path)


def test_anyones_pairs_are_read(tmp_path: Path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    rows = [{"prompt": "über p", "chosen": "a.png", "rejected": "a.png"}] * 2
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "pairs.jsonl").write_text(text, encoding="utf-8")
    assert [pair.prompt for pair in read_pairs(tmp_path)] == ["über p", "über p"]


def test_a_folder_without_a_listing_is_refused(tmp_path: Path):
    with pytest.raises(AdrpoError, match=r"algorithm\.pairs: expected a folder with pairs\.jsonl"):
        read_pairs(tmp_path)


def test_a_listing_that_is_not_utf_8_names_its_line(tmp_path: Path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    line = '{"prompt": "%s", "chosen": "a.png", "rejected": "a.png"}\n'
    (tmp_path / "pairs.jsonl").write_bytes((line % "p" + line % "über p").encode("latin-1"))
    with pytest.raises(AdrpoError, match=r"pairs\.jsonl, line 2: expected UTF-8 .* byte 0xfc"):
        read_pairs(tmp_path)


def pair_of(folder: Path, rejected: bytes | Image.Image) -> list[Pair]:
    """One pair whose chosen image has 6 x 4 pixels, as ``WidePolicy`` draws them."""
    Image.new("RGB", (6, 4)).save(folder / "good.png")
    if isinstance(rejected, bytes):
        (folder / "other.png").write_bytes(rejected)
    else:
        rejected.save(folder / "other.png")
    return [Pair(prompt="p", chosen=folder / "good.png", rejected=folder / "other.png")]


class WidePolicy:
    """Takes images of 6 x 4 pixels; a latent is its red channel."""

    width, height = 6, 4

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        reds = [np.asarray(image)[:, :, 0] for image in images]
        return torch.from_numpy(np.stack(reds)).float()


POLICY: Any = WidePolicy()


def test_images_of_the_models_size_are_taken(tmp_path: Path):
    pairs = pair_of(tmp_path, Image.new("L", (6, 4), 7))
    check_images(pairs, POLICY)
    chosen, rejected = load_latents(pairs, POLICY)
    assert torch.equal(chosen, torch.zeros(1, 4, 6))
    assert torch.equal(rejected, torch.full((1, 4, 6), 7.0))


# One of too many pixels, and one of the right number on the other side.
@pytest.mark.parametrize("size", [(12, 8), (4, 6)])
def test_an_image_of_another_size_is_refused(tmp_path: Path, size: tuple[int, int]):
    pairs = pair_of(tmp_path, Image.new("RGB", size))
    line = (
        f"{tmp_path / 'other.png'}: expected an image of 6x4 pixels (width x height), as the model "
        f"draws them; received {size[0]}x{size[1]}; crop and scale it, or set model.width and "
        "model.height"
    )
    with pytest.raises(AdrpoError, match=f"^{re.escape(line)}$"):
        check_images(pairs, POLICY)


def damaged_chunk(png: bytes) -> bytes:
    """Its pixels' chunk has a name that no chunk has; Pillow calls that a SyntaxError."""
    return png.replace(b"IDAT", b"\x00DAT")


@pytest.mark.parametrize(
    "damage", [lambda png: b"", lambda png: b"no picture", lambda png: png[:-30], damaged_chunk]
)
def test_a_damaged_image_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]):
    noise = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    pairs = pair_of(tmp_path, damage((tmp_path / "whole.png").read_bytes()))
    expected = r"other\.png: expected an image that can be read; received one that is damaged or .*"
    with pytest.raises(AdrpoError, match=expected):
        check_images(pairs, POLICY)
        load_latents(pairs, POLICY)


def test_training_refuses_images_of_another_size(tmp_path: Path):
    Image.new("RGB", (96, 64)).save(tmp_path / "a.png")
    line = {"prompt": "p", "chosen": "a.png", "rejected": "a.png"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(line), encoding="utf-8")
    trainer = DPOTrainer(tiny_config(algorithm={"method": "dpo", "pairs": str(tmp_path)}))
    size = f"{trainer.policy.width}x{trainer.policy.height}"
    expected = rf"a\.png: expected an image of {size} pixels .* received 96x64"
    with pytest.raises(AdrpoError, match=expected):
        trainer.prepare(RunDirectory.create(tmp_path / "run", "domain: flow\n"))


def test_a_run_knows_its_pairs_by_their_pictures(tmp_path: Path):
    """Whatever these are called, and behind the prompts."""
    config = tiny_config(algorithm={"method": "dpo", "pairs": str(tmp_path)})
    side = config.model.height or 64

    def known(first: str, shade: int) -> list[str]:
        Image.new("RGB", (side, side), (shade,) * 3).save(tmp_path / f"{first}.png")
        Image.new("RGB", (side, side)).save(tmp_path / "b.png")
        line = {"prompt": "p", "chosen": f"{first}.png", "rejected": "b.png"}
        (tmp_path / "pairs.jsonl").write_text(json.dumps(line), encoding="utf-8")
        return [digest(prompt) for prompt in DPOTrainer(config).inputs().train]

    (*prompts, pair), renamed, changed = known("a", 9), known("c", 9), known("a", 10)
    assert len(prompts) == config.prompts.train_size
    assert renamed == [*prompts, pair]
    assert changed[:-1] == prompts and changed[-1] != pair

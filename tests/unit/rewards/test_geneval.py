"""GenEval as a reward: the colors of crops, the file of requirements, and drawn pictures."""

import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch.nn.functional import normalize

from adrpo.errors import AdrpoError
from adrpo.rewards import build_reward
from adrpo.rewards.detection import Detection, load_detector
from adrpo.rewards.geneval import (
    COLORS,
    ColorClassifier,
    GenEval,
    Requirement,
    Task,
    cut_out,
    read_tasks,
)


def one_line(error: pytest.ExceptionInfo[AdrpoError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# Colors


def test_crops_are_grey_outside_the_mask() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    mask = np.zeros((8, 12), dtype=bool)
    mask[2:5, 3:9] = True
    mask[3, 4] = False
    image = Image.fromarray(pixels)
    crop = cut_out(image, Detection("cow", 1, (2.6, 1.4, 9.4, 5.6), mask))
    # Edges are rounded to whole pixels, to the nearest.
    expected = np.where(mask[..., None], pixels, 0x99)[1:6, 3:9]
    assert np.array_equal(np.asarray(crop), expected)
    whole = cut_out(image, Detection("cow", 1, (3, 1, 9, 6)))
    assert np.array_equal(np.asarray(whole), pixels[1:6, 3:9])
    assert cut_out(image.convert("L"), Detection("cow", 1, (3, 1, 9, 6), mask)).mode == "RGB"
    with pytest.raises(AdrpoError, match=r"\[8, 12\], for 'cow', received \[12, 8\]") as caught:
        cut_out(image, Detection("cow", 1, (3, 1, 9, 6), mask.T))
    one_line(caught)


class RandomClip:
    """Stands for CLIP: a unit vector for each text and image, drawn with its content as seed."""

    def embed_texts(self, prompts: Sequence[str]) -> torch.Tensor:
        return torch.stack([self._draw(prompt.encode()) for prompt in prompts])

    def embed_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        return torch.stack([self._draw(image.tobytes()) for image in images])

    def _draw(self, content: bytes) -> torch.Tensor:
        seed = torch.Generator().manual_seed(zlib.crc32(content))
        return normalize(torch.randn(8, generator=seed), dim=0)


def test_colors_are_the_nearest_of_ten_mean_texts() -> None:
    clip: Any = RandomClip()
    pixels = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    boxes = [(0, top, 40, 30) for top in range(20)]
    crops = clip.embed_images([image.crop(box) for box in boxes])
    for label in ("cow", "computer mouse"):
        nearness = []
        for color in COLORS:
            texts = [
                f"a photo of a {color} {label}",
                f"a photo of a {color}-colored {label}",
                f"a photo of a {color} object",
            ]
            mean = clip.embed_texts(texts).double().mean(dim=0)
            nearness.append(torch.cosine_similarity(crops.double(), mean[None]))
        expected = [COLORS[index] for index in torch.stack(nearness).argmax(dim=0).tolist()]
        assert len(set(expected)) > 3
        classify = ColorClassifier(clip)
        assert classify(image, label, [Detection(label, 1, box) for box in boxes]) == expected


# The file


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def row(prompt: str, include: Any, tag: str = "two_object", **more: Any) -> dict[str, Any]:
    return {"tag": tag, "include": include, "prompt": prompt, **more}


def entry(label: str, count: int = 1, **more: Any) -> dict[str, Any]:
    return {"class": label, "count": count, **more}


def test_the_published_form_is_read(tmp_path: Path) -> None:
    counting = row("a photo of two cows", [entry("cow", 2)], "counting", exclude=[entry("cow", 3)])
    position = row(
        "a photo of a dog above a mouse",
        [entry("mouse"), entry("dog", color="red", position=["above", 0])],
        "position",
    )
    # Flow-GRPO's test file has each line four times.
    tasks = read_tasks(write(tmp_path / "metadata.jsonl", counting, position, counting))
    assert tasks == {
        "a photo of two cows": Task("counting", (Requirement("cow", 2),), (Requirement("cow", 3),)),
        "a photo of a dog above a mouse": Task(
            "position",
            (
                Requirement("computer mouse", 1),
                Requirement("dog", 1, color="red", position=("above", 0)),
            ),
        ),
    }


@pytest.mark.parametrize(
    ("include", "message"),
    [
        (None, "expected lists of objects, received None"),
        ([], "expected an object to include or exclude, received none"),
        (["cow"], 'expected "class" and a "count" of 1 or more, received \'cow\''),
        ([entry("cow", 0)], 'a "count" of 1 or more'),
        ([{"class": "cow"}], 'a "count" of 1 or more'),
        ([entry("cow", color="grey")], "expected a color of red, .*, received 'grey'"),
        ([entry("cow", position=["left of", 0])], "index of an earlier object"),
        ([entry("cow"), entry("dog", position=["under", 0])], r"received \['under', 0\]"),
        ([entry("cow"), entry("dog", position=["above", -1])], "index of an earlier object"),
        ([entry("dog")], "requirements of an earlier line with this prompt"),
    ],
)
def test_lines_of_another_form_are_refused(tmp_path: Path, include: Any, message: str) -> None:
    file = write(tmp_path / "metadata.jsonl", row("a cow", [entry("cow")]), row("a cow", include))
    with pytest.raises(AdrpoError, match=message) as caught:
        read_tasks(file)
    assert f"{file}, line 2: " in one_line(caught)


# The reward


PALETTE = {
    "red": (220, 0, 0),
    "orange": (250, 140, 0),
    "yellow": (250, 250, 0),
    "green": (0, 150, 0),
    "blue": (0, 0, 230),
    "purple": (130, 0, 130),
    "pink": (255, 140, 180),
    "brown": (110, 60, 10),
    "black": (0, 0, 0),
    "white": (255, 255, 255),
}


class ColorClip:
    """Stands for CLIP: embeds a text by its color word and an image by its mean color, both as
    the difference from #999. Grey pixels then leave the direction as it is."""

    def embed_texts(self, prompts: Sequence[str]) -> torch.Tensor:
        words = [re.split("[ -]", prompt) for prompt in prompts]
        named = [next(color for color in COLORS if color in said) for said in words]
        return normalize(torch.tensor([PALETTE[c] for c in named]).float() - 0x99, dim=1)

    def embed_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        means = [np.asarray(image, dtype=np.float32).mean((0, 1)) - 0x99 for image in images]
        return normalize(torch.from_numpy(np.stack(means)), dim=1)


SHADES = {"cow": 0, "dog": 1}


def by_shade(images: list[Image.Image]) -> list[list[Detection]]:
    """Finds discs: bit 0 of every channel of a cow's pixels is 0, of a dog's 1."""
    found: list[list[Detection]] = []
    for image in images:
        pixels = np.asarray(image)
        drawn = (pixels != 0x60).any(axis=2)
        detections = []
        for label, bit in SHADES.items():
            mask = drawn & (pixels[..., 0] % 2 == bit)
            if mask.any():
                y, x = np.nonzero(mask)
                box = (float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1))
                detections.append(Detection(label, 0.99, box, mask))
        found.append(detections)
    return found


class CountingDetector:
    labels = ("cow", "dog")

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, images: list[Image.Image]) -> list[list[Detection]]:
        self.seen += len(images)
        return by_shade(images)


def picture(*discs: tuple[str, str, int]) -> Image.Image:
    """Discs of (class, color, left edge) on a background that is no color of the palette."""
    image = Image.new("RGB", (96, 48), (0x60, 0x60, 0x60))
    draw = ImageDraw.Draw(image)
    for label, color, x in discs:
        red, green, blue = (value & ~1 | SHADES[label] for value in PALETTE[color])
        draw.ellipse((x, 10, x + 24, 34), fill=(red, green, blue))
    return image


@pytest.fixture
def metadata(tmp_path: Path) -> Path:
    beside = [entry("dog"), entry("cow", position=["left of", 0])]
    pair = [entry("cow", color="blue"), entry("dog", color="pink")]
    return write(
        tmp_path / "metadata.jsonl",
        row("a photo of a cow left of a dog", beside, "position"),
        row("a photo of a blue cow and a pink dog", pair, "color_attr"),
    )


@pytest.fixture
def color_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adrpo.rewards.geneval.ClipScore", lambda clip, device: ColorClip())


@pytest.mark.usefixtures("color_clip")
def test_images_are_scored_by_their_prompts(metadata: Path) -> None:
    left, pair = "a photo of a cow left of a dog", "a photo of a blue cow and a pink dog"
    samples = [
        (left, picture(("cow", "red", 4), ("dog", "white", 60)), 1, 1),
        (left, picture(("cow", "red", 60), ("dog", "white", 4)), 0, 2 / 3),
        ("a photo of a cow", picture(("cow", "red", 4)), None, None),
        (pair, picture(("cow", "blue", 4), ("dog", "pink", 60)), 1, 1),
        (f" {pair}\n", picture(("cow", "pink", 4), ("dog", "pink", 60)), 0, 3 / 4),
        (pair, picture(("dog", "pink", 60)), 0, 1 / 2),
    ]
    prompts, images = [sample[0] for sample in samples], [sample[1] for sample in samples]
    detector = CountingDetector()
    reward = GenEval(metadata, detector)
    assert reward(prompts=prompts, images=images, step=[0] * 6) == [s[2] for s in samples]
    # The image of an unknown prompt is not looked at.
    assert detector.seen == 5
    assert GenEval(metadata, detector)(["a cow"], [images[0]]) == [None]
    assert detector.seen == 5
    graded = GenEval(metadata, detector, partial=True)(prompts, images)
    assert graded == pytest.approx([s[3] for s in samples], abs=1e-12)


@pytest.mark.parametrize("color", COLORS)
def test_each_color_is_told_apart(color: str) -> None:
    classify = ColorClassifier(ColorClip())  # pyright: ignore[reportArgumentType]
    image = picture(("cow", color, 20))
    (found,) = by_shade([image])[0]
    assert classify(image, "cow", [found]) == [color]


def test_a_detector_by_its_dotted_path(metadata: Path) -> None:
    options = {
        "metadata": str(metadata),
        "detector": f"{__name__}:CountingDetector",
        "clip": "embedded",
    }
    config: Any = SimpleNamespace(
        name="geneval", weight=1.0, logistic=None, timeout=None, options=options
    )
    (term,) = build_reward([config], "cpu")
    image = picture(("cow", "red", 4), ("dog", "white", 60))
    prompts = ["a photo of a cow left of a dog", "a photo of a blue cow and a pink dog"]
    scores = term.function(prompts=prompts, images=[image] * 2)
    assert scores[0] == 1
    # What the small CLIP of the package takes for a color of cows does not matter here.
    assert scores[1] in (0, 1)
    assert load_detector(f"{__name__}.by_shade", "cpu") is by_shade


@pytest.mark.usefixtures("color_clip")
def test_a_detector_without_a_class_of_the_metadata_is_refused(metadata: Path) -> None:
    def detector(images: list[Image.Image]) -> list[list[Detection]]:
        raise NotImplementedError

    detector.labels = ("cow", "sofa")  # pyright: ignore[reportFunctionMemberAccess]
    with pytest.raises(AdrpoError, match="it lacks 1, 'dog' among them") as caught:
        GenEval(metadata, detector)
    one_line(caught)


@pytest.mark.usefixtures("color_clip")
def test_a_detector_that_loses_images_is_named(metadata: Path) -> None:
    reward = GenEval(metadata, lambda images: [])
    with pytest.raises(AdrpoError, match=r"expected 1 lists of .* received 0") as caught:
        reward(["a photo of a cow left of a dog"], [picture()])
    one_line(caught)

"""Aesthetic score, PickScore and JPEG size; and the short names of all image rewards."""

import importlib
import io
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from adrpo.embedded.weights import weights_path
from adrpo.errors import AdrpoError
from adrpo.rewards import build_reward
from adrpo.rewards.aesthetic import AestheticScore
from adrpo.rewards.file_size import JpegSize
from adrpo.rewards.image import ClipScore
from adrpo.rewards.loading import BUILT_IN
from adrpo.rewards.pick_score import PickScore

CLIP = weights_path("reward_clip")
PROMPTS = ["a red circle", "two blue stars", "a red circle", "the word cat in green"]


def images(count: int) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
    return [Image.fromarray(array) for array in pixels]


def one_line(error: pytest.ExceptionInfo[AdrpoError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.fixture(scope="module")
def head() -> dict[str, torch.Tensor]:
    """The published layout on embeddings of the embedded CLIP's width."""
    rng = torch.Generator().manual_seed(1)
    width = ClipScore("embedded").embed_texts(["a"]).shape[1]
    widths = (width, 9, 7, 6, 5, 1)
    result = {}
    for layer, width_in, width_out in zip("02467", widths, widths[1:], strict=False):
        result[f"layers.{layer}.weight"] = torch.randn(width_out, width_in, generator=rng)
        result[f"layers.{layer}.bias"] = torch.randn(width_out, generator=rng)
    return result


@pytest.fixture(scope="module")
def head_file(head: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("aesthetic") / "sac+logos+ava1-l14-linearMSE.pth"
    torch.save(head, path)
    return path


# Aesthetic


def test_aesthetic_score_is_affine_in_the_unit_embedding(
    head: dict[str, torch.Tensor], head_file: Path
) -> None:
    pictures = images(4)
    embeds = ClipScore("embedded").embed_images(pictures).double()
    # Without activations the five layers collapse to one: slope . e + offset.
    slope, offset = torch.eye(embeds.shape[1]).double(), torch.zeros(1).double()
    for layer in "02467":
        matrix = head[f"layers.{layer}.weight"].double()
        slope, offset = matrix @ slope, matrix @ offset.expand(matrix.shape[1])
        offset = offset + head[f"layers.{layer}.bias"].double()
    expected = (embeds @ slope.T + offset)[:, 0].tolist()
    aesthetic = AestheticScore(head_file, clip="embedded")
    # float32 through five layers of values of size 100.
    assert aesthetic(PROMPTS, pictures) == pytest.approx(expected, rel=1e-4)
    assert aesthetic(PROMPTS[::-1], pictures) == aesthetic(PROMPTS, pictures)
    assert np.std(expected) > 1
    parts = AestheticScore(head_file, clip="embedded", batch_size=3)(PROMPTS, pictures[::-1])
    assert parts == pytest.approx(expected[::-1], rel=1e-4)


def test_the_converted_head_scores_the_same(head_file: Path) -> None:
    first = AestheticScore(head_file, clip="embedded")(PROMPTS, images(4))
    converted = head_file.with_suffix(".safetensors")
    assert AestheticScore(converted, clip="embedded")(PROMPTS, images(4)) == first


def test_another_head_is_refused(head: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save_file({"weight": torch.ones(1, 8), "bias": torch.ones(1)}, path)
    with pytest.raises(AdrpoError, match=r"layers\.0\.weight") as caught:
        AestheticScore(path, clip="embedded")
    assert str(path) in one_line(caught)
    save_file({**head, "layers.9.weight": torch.ones(1)}, path)
    with pytest.raises(AdrpoError, match=r"layers\.9\.weight") as caught:
        AestheticScore(path, clip="embedded")
    one_line(caught)
    save_file({name: tensor for name, tensor in head.items() if name != "layers.4.bias"}, path)
    with pytest.raises(AdrpoError, match=r"lack 1 tensors, 'layers\.4\.bias'") as caught:
        AestheticScore(path, clip="embedded")
    one_line(caught)
    two = {"layers.7.weight": torch.ones(2, 5), "layers.7.bias": torch.ones(2)}
    save_file({**head, **two}, path)
    with pytest.raises(AdrpoError, match=r"one output.*received 2") as caught:
        AestheticScore(path, clip="embedded")
    one_line(caught)


def test_a_head_for_another_clip_is_refused(head: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    width = head["layers.0.weight"].shape[1]
    save_file({**head, "layers.0.weight": torch.ones(9, width + 1)}, path)
    with pytest.raises(AdrpoError, match=f"of {width + 1} numbers.*received {width}") as caught:
        AestheticScore(path, clip="embedded")
    one_line(caught)


# PickScore


@pytest.fixture(scope="module")
def pick_folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model and its processor in two folders, as published; a logit scale of its own."""
    model, processor = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("processor")
    for file in CLIP.iterdir():
        folder = model if file.name in ("config.json", "model.safetensors") else processor
        shutil.copy(file, folder / file.name)
    weights = load_file(model / "model.safetensors")
    weights["logit_scale"] = torch.tensor(26.0).log()
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(CLIP / "config.json", processor / "config.json")
    return model, processor


def test_pick_score_is_the_scaled_cosine(pick_folders: tuple[Path, Path]) -> None:
    pictures = images(4)
    clip = ClipScore(CLIP)
    # The CLIP score is 100 cos; this model's exp(logit_scale) is 26.
    expected = [26 / 100 * value for value in clip(PROMPTS, pictures) if value is not None]
    pick = PickScore(*pick_folders)
    # float32 in another batch shape, on values of size 10.
    assert pick(PROMPTS, pictures) == pytest.approx(expected, abs=1e-4)
    assert np.std(expected) > 0.1
    order = [2, 0, 3, 1]
    parts = PickScore(*pick_folders, batch_size=3)(
        [PROMPTS[i] for i in order], [pictures[i] for i in order]
    )
    assert parts == pytest.approx([expected[i] for i in order], abs=1e-4)


def test_pick_score_names_what_can_not_be_loaded(
    pick_folders: tuple[Path, Path], tmp_path: Path
) -> None:
    model, processor = pick_folders
    with pytest.raises(AdrpoError, match=r"model\.safetensors") as caught:
        PickScore(tmp_path, processor)
    assert str(tmp_path) in one_line(caught)
    with pytest.raises(AdrpoError, match="tokenizer") as caught:
        PickScore(model, tmp_path)
    assert str(tmp_path) in one_line(caught)
    weights = load_file(model / "model.safetensors")
    del weights["text_projection.weight"]
    shutil.copy(model / "config.json", tmp_path / "config.json")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AdrpoError, match=r"lack 1 tensors, 'text_projection\.weight'") as caught:
        PickScore(tmp_path, processor)
    one_line(caught)


# JPEG size


@pytest.mark.parametrize("quality", [95, 30])
def test_jpeg_size_is_the_files_size_in_kilobytes(quality: int, tmp_path: Path) -> None:
    pictures = images(2)
    values = JpegSize(quality)(PROMPTS[:2], pictures)
    for value, picture in zip(values, pictures, strict=True):
        # Chroma at half resolution is Pillow's default.
        picture.save(tmp_path / "image.jpg", quality=quality)
        assert 1000 * value == pytest.approx((tmp_path / "image.jpg").stat().st_size)


def test_jpeg_size_orders_images_by_their_detail() -> None:
    noise, flat = images(1)[0], Image.new("RGB", (64, 64), (90, 120, 30))
    smooth = Image.linear_gradient("L").resize((64, 64))
    sizes = JpegSize()(["p"] * 3, [noise, smooth, flat])
    assert sizes[0] > sizes[1] > sizes[2] > 0
    assert JpegSize(50)(["p"], [noise])[0] < sizes[0]
    buffer = io.BytesIO()
    noise.save(buffer, format="PNG")
    buffer.seek(0)
    assert JpegSize()(["p"], [Image.open(buffer)])[0] == sizes[0]


@pytest.mark.parametrize("quality", [0, 96])
def test_jpeg_size_refuses_a_quality_out_of_range(quality: int) -> None:
    with pytest.raises(AdrpoError, match=f"from 1 to 95, received {quality}") as caught:
        JpegSize(quality)
    one_line(caught)


# Short names


def term(name: str, **options: Any) -> Any:
    return SimpleNamespace(name=name, weight=1.0, options=options, logistic=None, timeout=None)


def test_every_short_name_leads_to_a_class() -> None:
    assert {
        "clip_score",
        "aesthetic",
        "blip_score",
        "image_reward",
        "pick_score",
        "ocr_accuracy",
        "jpeg_size",
    } <= set(BUILT_IN)
    for name, path in BUILT_IN.items():
        module, _, attribute = path.partition(":")
        assert isinstance(getattr(importlib.import_module(module), attribute), type), name


def test_rewards_are_built_by_their_short_names(
    head_file: Path, pick_folders: tuple[Path, Path]
) -> None:
    model, processor = map(str, pick_folders)
    terms = [
        term("aesthetic", weights=str(head_file), clip="embedded"),
        term("pick_score", model=model, processor=processor),
        term("jpeg_size", quality=80),
    ]
    built = build_reward(terms, "cpu")
    assert [one.name for one in built] == ["aesthetic", "pick_score", "jpeg_size"]
    pictures = images(4)
    for one in built:
        returned = one.function(prompts=PROMPTS, images=pictures, unused=[0] * 4)
        values = np.asarray(returned, dtype=float)
        assert np.isfinite(values).all() and np.std(values) > 0, one.name

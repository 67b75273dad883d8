"""Features against transformers' own models, and folders that hold no usable one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, Dinov2Model

from adrpo.errors import AdrpoError
from adrpo.evaluation.image_features import ImageFeatures
from adrpo.rewards.image import ClipScore
from support.tiny_vision import SIDE, WIDTH, picture_folder, pictures, tiny_dinov2


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dinov2(tmp_path_factory.mktemp("dinov2"))


def test_a_dinov2_gives_its_class_token_of_the_picture_as_its_processor_cuts_it(
    dinov2: Path,
) -> None:
    images = pictures(3)
    found = ImageFeatures(dinov2, batch_size=2).of(images)
    assert found.shape == (3, WIDTH) and found.dtype == torch.float32
    model = Dinov2Model.from_pretrained(dinov2).eval()
    settings = json.loads((dinov2 / "preprocessor_config.json").read_text())
    for image, features in zip(images, found, strict=True):
        # The shorter side to SIDE + 4, the middle cut out, (value / 255 - mean) / std.
        scale = (SIDE + 4) / min(image.size)
        width, height = (int(side * scale) for side in image.size)
        small = image.resize((width, height), resample=settings["resample"])
        left, top = (width - SIDE) // 2, (height - SIDE) // 2
        pixels = np.asarray(small.crop((left, top, left + SIDE, top + SIDE)), np.float32) / 255
        pixels = (pixels - settings["image_mean"]) / settings["image_std"]
        with torch.no_grad():
            states = model(torch.from_numpy(pixels).float().permute(2, 0, 1)[None])
        # Other batches are summed in another order.
        torch.testing.assert_close(features, states.last_hidden_state[0, 0], rtol=1e-3, atol=1e-3)
    assert found.std(dim=0).min() > 0.1


def test_a_clip_gives_its_image_embedding_and_not_its_direction_alone() -> None:
    images = pictures(3)
    found = ImageFeatures("embedded").of(images)
    unit = ClipScore("embedded").embed_images(images)
    torch.testing.assert_close(found / found.norm(dim=1, keepdim=True), unit)
    assert (found.norm(dim=1) - 1).abs().min() > 0.1


def test_files_are_read_as_the_pictures_that_they_hold(dinov2: Path, tmp_path: Path) -> None:
    network, folder = ImageFeatures(dinov2, batch_size=2), picture_folder(tmp_path, 3)
    files = [folder / "inner/0.png", folder / "1.png", folder / "2.png"]
    assert torch.equal(network.of_files(files), network.of(pictures(3)))
    transparent = [image.convert("RGBA") for image in pictures(2)]
    assert torch.equal(network.of(transparent), network.of(pictures(2)))
    files[1].write_bytes(files[1].read_bytes()[:200])
    with pytest.raises(AdrpoError, match=rf"{files[1]}: expected an image that can be read"):
        network.of_files(files)


def test_models_that_have_no_features_of_images_are_refused(dinov2: Path, tmp_path: Path) -> None:
    incomplete, empty, text, pickled = (tmp_path / name for name in ("part", "none", "text", "bin"))
    for folder in (incomplete, pickled):
        folder.mkdir()
        for name in ("config.json", "preprocessor_config.json"):
            (folder / name).write_bytes((dinov2 / name).read_bytes())
    weights = load_file(dinov2 / "model.safetensors")
    torch.save(weights, pickled / "pytorch_model.bin")
    del weights["layernorm.weight"]
    save_file(weights, incomplete / "model.safetensors", metadata={"format": "pt"})
    empty.mkdir()
    BertModel(
        BertConfig(
            vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
            intermediate_size=8,
        )
    ).save_pretrained(text)  # fmt: skip
    for folder, words in (
        (incomplete, "lack 1 tensors, 'layernorm.weight'"),
        (empty, "expected a vision model with weights"),
        (text, "expected a model of images.*BertModel, which reads input_ids"),
        (pickled, "can't be loaded: .*safetensors"),
        (tmp_path / "gone", "there is no such folder"),
    ):
        with pytest.raises(AdrpoError, match=words) as caught:
            ImageFeatures(folder)
        assert "\n" not in str(caught.value)

"""Detectors by name, and Mask2Former on a tiny random model against its raw logits."""

import functools
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.functional import interpolate
from transformers import Mask2FormerConfig, Mask2FormerModel, SwinConfig
from transformers.models.mask2former.image_processing_pil_mask2former import (
    Mask2FormerImageProcessorPil,
)

from adrpo.errors import AdrpoError
from adrpo.rewards.detection import Box, Detection, Mask2Former, load_detector
from adrpo.rewards.geneval import GenEval

LABELS = {0: "cat", 1: "motorbike", 2: "mouse"}
QUERIES = 8


def one_line(error: pytest.ExceptionInfo[AdrpoError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


class Reference(torch.nn.Module):
    """The published layout: transformers' own model under "model.", and the class predictor."""

    def __init__(self, config: Mask2FormerConfig) -> None:
        super().__init__()
        self.model = Mask2FormerModel(config)
        self.class_predictor = torch.nn.Linear(config.hidden_dim, len(LABELS) + 1)

    @torch.no_grad()
    def forward(self, pixels: torch.Tensor) -> SimpleNamespace:
        output = self.model(pixels, output_hidden_states=True)
        last = output.transformer_decoder_intermediate_states[-1].transpose(0, 1)
        return SimpleNamespace(
            class_queries_logits=self.class_predictor(last),
            masks_queries_logits=output.masks_queries_logits[-1],
        )


@functools.cache
def reference() -> Reference:
    backbone = SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],  # pyright: ignore[reportCallIssue]
    )
    config = Mask2FormerConfig(
        backbone_config=backbone,
        encoder_layers=1,
        encoder_feedforward_dim=16,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=QUERIES,
        id2label=LABELS,
        label2id={label: index for index, label in LABELS.items()},
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        dim_feedforward=16,
    )
    torch.manual_seed(0)
    model = Reference(config).eval()
    # As initialized, all masks cover the whole image; noise gives them edges.
    for parameter in model.parameters():
        parameter.data += 0.4 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mask2former")
    model = reference()
    model.model.config.save_pretrained(folder)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    tensors["criterion.empty_weight"] = torch.ones(len(LABELS) + 1)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    # As the published ones: every image would become 384 x 384.
    Mask2FormerImageProcessorPil(
        size={"height": 384, "width": 384}, num_labels=len(LABELS), ignore_index=255
    ).save_pretrained(folder)
    return folder


def photos(*sizes: tuple[int, int]) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 256, (4, 4, 3), dtype=np.uint8) for _ in sizes]
    return [Image.fromarray(a).resize(size) for a, size in zip(coarse, sizes, strict=True)]


def small(folder: Path, **options: Any) -> Mask2Former:
    edges = {"shortest_edge": 64, "longest_edge": 128}
    return Mask2Former(folder, **{"threshold": 0.0, **edges, **options})


def summary(found: Sequence[Detection]) -> list[tuple[str, Box, int]]:
    def area(mask: Any) -> int:
        return int(mask.sum())

    return sorted((one.label, one.box, area(one.mask)) for one in found)


def test_detections_are_read_off_the_raw_logits(folder: Path) -> None:
    (photo,) = photos((70, 50))
    # 64 / 50 makes 70 wide 89.6; both sides then go up to multiples of 32.
    processor = Mask2FormerImageProcessorPil.from_pretrained(folder)
    pixels = processor(photo, size={"height": 64, "width": 96}, return_tensors="pt")["pixel_values"]
    logits = reference()(pixels)
    chances = logits.class_queries_logits[0].softmax(dim=1)[:, :-1]
    pairs = sorted(product(range(QUERIES), LABELS), key=lambda pair: -chances[pair])[:QUERIES]
    expected = []
    for query, label in pairs:
        mask = logits.masks_queries_logits[0, query][None, None]
        for size in ((64, 96), (50, 70)):
            mask = interpolate(mask, size=size, mode="bilinear")
        inside = mask[0, 0] > 0
        if inside.any():
            confidence = torch.sigmoid(mask[0, 0])[inside].mean()
            score = float(chances[query, label] * confidence)
            expected.append((LABELS[label], score, inside.numpy()))
    (found,) = small(folder)([photo])
    assert [one.label for one in found] == [label for label, _, _ in expected]
    # Means of float32 in another order.
    assert [one.score for one in found] == pytest.approx([s for _, s, _ in expected], rel=1e-5)
    assert any(not mask.all() for _, _, mask in expected)
    for one, (_, _, mask) in zip(found, expected, strict=True):
        assert one.mask is not None
        assert np.array_equal(one.mask, mask)
        left, top, right, bottom = map(int, one.box)
        outside = mask.copy()
        outside[top:bottom, left:right] = False
        assert not outside.any()
        edges = mask[top], mask[bottom - 1], mask[:, left], mask[:, right - 1]
        assert all(edge.any() for edge in edges)


def test_detections_agree_with_transformers_own_post_processing(folder: Path) -> None:
    """At 384 x 384, the one size that transformers' function works at, it resizes once."""
    (photo,) = photos((384, 384))
    processor: Any = Mask2FormerImageProcessorPil.from_pretrained(folder)
    logits = reference()(processor(photo, return_tensors="pt")["pixel_values"])
    (other,) = processor.post_process_instance_segmentation(
        logits, threshold=1e-6, target_sizes=[(384, 384)], return_binary_maps=True
    )
    (found,) = small(folder, shortest_edge=384, longest_edge=384)([photo])
    assert len(found) == len(other["segments_info"]) > 0
    masks = sorted(found, key=lambda one: one.score)
    order = sorted(range(len(found)), key=lambda row: other["segments_info"][row]["score"])
    for one, row in zip(masks, order, strict=True):
        info = other["segments_info"][row]
        assert one.label == LABELS[info["label_id"]]
        # It rounds scores to six digits.
        assert one.score == pytest.approx(info["score"], abs=1e-5)
        assert one.mask is not None
        assert np.array_equal(one.mask, other["segmentation"][row].numpy() == 1)


def test_batches_and_sizes_change_nothing(folder: Path) -> None:
    images = photos((70, 50), (70, 50), (50, 70), (70, 50))
    images[3] = images[3].convert("L")
    detector = small(folder, batch_size=2)
    together = detector(images)
    alone = [found for image in images for found in detector([image])]
    for image, one, other in zip(images, together, alone, strict=True):
        masks = [found.mask for found in one if found.mask is not None]
        assert {mask.shape for mask in masks} == {(image.height, image.width)}
        assert len(masks) == len(one)
        assert summary(one) == summary(other)
    assert summary(alone[0]) != summary(alone[1])


def test_a_threshold_drops_the_unsure_and_nothing_else(folder: Path) -> None:
    images = photos((70, 50))
    (everything,) = small(folder)(images)
    scores = sorted(one.score for one in everything)
    # Just above the third: its class alone is likelier than that, its score is not.
    threshold = 1.001 * scores[2]
    assert threshold < scores[3]
    (kept,) = small(folder, threshold=threshold)(images)
    assert summary(kept) == summary([one for one in everything if one.score > threshold])
    assert len(kept) == len(everything) - 3
    assert small(folder, threshold=1.0)(images) == [[]]


@pytest.mark.parametrize("spoiled", ["class_queries_logits", "masks_queries_logits"])
def test_logits_that_are_no_numbers_are_no_empty_image(
    folder: Path, spoiled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = small(folder)
    model = detector._model

    def spoil(pixels: torch.Tensor) -> Any:
        output = model(pixels)
        getattr(output, spoiled)[-1, 0, 0] = torch.nan
        return output

    monkeypatch.setattr(detector, "_model", spoil)
    with pytest.raises(ValueError, match="logits of an image are not finite"):
        detector(photos((70, 50)))


def test_a_folder_is_a_detector_with_its_labels(folder: Path, tmp_path: Path) -> None:
    detector = load_detector(str(folder), "cpu")
    assert isinstance(detector, Mask2Former)
    assert detector.labels == ("cat", "motorbike", "mouse")
    metadata = tmp_path / "metadata.jsonl"
    line = '{{"tag": "single_object", "prompt": "one", "include": [{{"class": "{}", "count": 1}}]}}'
    metadata.write_text(line.format("cow"), encoding="utf-8")
    with pytest.raises(AdrpoError, match="it lacks 1, 'cow' among them"):
        GenEval(metadata, folder, clip="embedded")
    # By GenEval's names, the model can find two more classes.
    for label in ("cat", "motorcycle", "computer mouse"):
        metadata.write_text(line.format(label), encoding="utf-8")
        GenEval(metadata, detector, clip="embedded")


def damaged(folder: Path, tmp_path: Path, change: Callable[[Path], object]) -> Path:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    change(tmp_path)
    return tmp_path


def drop_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["class_predictor.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_tensor, "lack 1 tensors, 'class_predictor.weight' among them"),
        (lambda folder: (folder / "model.safetensors").unlink(), "with weights"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"0"), "can't be loaded"),
        (lambda folder: (folder / "config.json").write_text("{"), "can't be loaded"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "can't be loaded"),
    ],
)
def test_a_damaged_model_is_refused_in_one_line(
    folder: Path, tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    with pytest.raises(AdrpoError, match=message) as caught:
        Mask2Former(damaged(folder, tmp_path, change))
    assert str(tmp_path) in one_line(caught)


# Names


class OnDevice:
    def __init__(self, device: str) -> None:
        self.device = device


def test_a_detector_class_gets_the_device() -> None:
    assert vars(load_detector(f"{__name__}:OnDevice", "cpu")) == {"device": "cpu"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("detector", "a dotted path"),
        ("no.such.module:find", "No module named 'no'"),
        ("adrpo.rewards.detection:find", "no attribute 'find'"),
        ("adrpo.rewards.image:EMBEDDED", "a function or a class, received dict"),
        ("/no/such/folder", "there is no such folder"),
        ("./a/b", "there is no such folder"),
    ],
)
def test_sources_that_lead_nowhere_are_named(source: str, message: str) -> None:
    with pytest.raises(AdrpoError, match=message) as caught:
        load_detector(source, "cpu")
    assert repr(source) in one_line(caught)

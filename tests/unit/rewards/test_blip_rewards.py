"""BLIP score and ImageReward on random weights in the published layout, against plain torch."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn.functional import normalize
from transformers import BertTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from adrpo.errors import AdrpoError
from adrpo.rewards.blip import (
    BlipImageText,
    BlipScore,
    original_name,
    pixel_values,
    text_config,
    vision_config,
)
from adrpo.rewards.conversion import load_exactly
from adrpo.rewards.image_reward import MEAN, STD, ImageReward
from support.blip_reference import (
    IMAGE,
    POSITIONS,
    WIDTH,
    WORDS,
    Reference,
    Weights,
    random_weights,
)

PROMPTS = ["a red circle", "a blue square a red", "A RED circle", "blue"]
# Two layers in float32 against float64: values of size 1 to about 1e-6.
ATOL = 1e-5


def images(count: int) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 24, 24, 3), dtype=np.uint8)
    return [Image.fromarray(array) for array in pixels]


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights()


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    vocabulary = {word: row for row, word in enumerate(WORDS)}
    BertTokenizer(vocab=vocabulary).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def blip_file(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As published: a pickle with the state dict under "model", beside what pretraining needs."""
    rest = {
        "visual_encoder_m.cls_token": torch.zeros(1),
        "text_encoder_m.embeddings.position_ids": torch.arange(POSITIONS)[None],
        "text_encoder.embeddings.position_ids": torch.arange(POSITIONS)[None],
        "text_decoder.cls.predictions.bias": torch.zeros(3),
        "image_queue": torch.zeros(2, 2),
        "queue_ptr": torch.zeros(1, dtype=torch.long),
        "temp": torch.tensor(0.07),
        "itm_head.weight": torch.zeros(2, WIDTH),
    }
    path = tmp_path_factory.mktemp("blip") / "model_large.pth"
    torch.save({"model": {**weights, **rest}, "epoch": 19}, path)
    return path


@pytest.fixture(scope="module")
def head() -> Weights:
    rng = torch.Generator().manual_seed(1)
    widths = (WIDTH, 7, 6, 5, 4, 1)
    result = {}
    for layer, width_in, width_out in zip("02467", widths, widths[1:], strict=False):
        result[f"layers.{layer}.weight"] = torch.randn(width_out, width_in, generator=rng) / 2
        result[f"layers.{layer}.bias"] = torch.randn(width_out, generator=rng)
    return result


@pytest.fixture(scope="module")
def reward_file(weights: Weights, head: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image_reward") / "ImageReward.pt"
    tensors = {f"blip.{name}": tensor for name, tensor in weights.items()}
    tensors |= {f"mlp.{name}": tensor for name, tensor in head.items()}
    tensors["blip.text_encoder.embeddings.position_ids"] = torch.arange(POSITIONS)[None]
    torch.save(tensors, path)
    return path


def test_blip_score_is_the_cosine_of_the_published_model(
    weights: Weights, blip_file: Path, tokenizer_folder: Path
) -> None:
    reference = Reference(weights)
    pictures = images(4)
    expected = []
    for prompt, pixels in zip(PROMPTS, pixel_values(pictures, IMAGE), strict=True):
        image = reference.affine("vision_proj", reference.image_tokens(pixels)[0])
        text = reference.affine("text_proj", reference.text_class_token(prompt))
        expected.append(float(normalize(image, dim=0) @ normalize(text, dim=0)))
    blip = BlipScore(blip_file, tokenizer_folder)
    values = blip(PROMPTS, pictures)
    assert values == pytest.approx(expected, abs=ATOL)
    # Images and texts both matter.
    assert np.std(blip(PROMPTS, pictures[:1] * 4)) > 100 * ATOL
    assert np.std(blip(PROMPTS[:1] * 4, pictures)) > 100 * ATOL


def test_image_reward_is_the_affine_head_of_the_fused_class_token(
    weights: Weights, head: Weights, reward_file: Path, tokenizer_folder: Path
) -> None:
    # Without activations the five layers collapse to one: head(h) = slope . h + offset.
    slope, offset = torch.eye(WIDTH).double(), torch.zeros(WIDTH).double()
    for layer in "02467":
        matrix = head[f"layers.{layer}.weight"].double()
        slope, offset = matrix @ slope, matrix @ offset + head[f"layers.{layer}.bias"].double()
    reference = Reference(weights)
    pictures = images(4)
    expected = []
    for prompt, pixels in zip(PROMPTS, pixel_values(pictures, IMAGE), strict=True):
        h = reference.text_class_token(prompt, reference.image_tokens(pixels))
        expected.append(float((slope @ h + offset).item() - MEAN) / STD)
    reward = ImageReward(reward_file, tokenizer_folder)
    values = reward(PROMPTS, pictures)
    # The head's slope, of length 14, multiplies the rounding.
    assert values == pytest.approx(expected, abs=10 * ATOL)
    # Images and texts both matter.
    assert np.std(reward(PROMPTS, pictures[:1] * 4)) > 1000 * ATOL
    assert np.std(reward(PROMPTS[:1] * 4, pictures)) > 1000 * ATOL


@pytest.mark.parametrize("kind", ["blip_score", "image_reward"])
def test_scores_do_not_depend_on_the_batch(
    blip_file: Path, reward_file: Path, tokenizer_folder: Path, kind: str
) -> None:
    make: Callable[..., BlipScore | ImageReward]
    make, file = (BlipScore, blip_file) if kind == "blip_score" else (ImageReward, reward_file)
    pictures = images(4)
    whole = make(file, tokenizer_folder)(PROMPTS, pictures)
    order = [2, 0, 3, 1]
    parts = make(file, tokenizer_folder, batch_size=3)(
        [PROMPTS[i] for i in order], [pictures[i] for i in order]
    )
    # The same float32 arithmetic in another batch shape; ImageReward's head multiplies it by 14.
    assert parts == pytest.approx([whole[i] for i in order], abs=10 * ATOL)


def test_texts_are_cut_to_35_tokens(blip_file: Path, tokenizer_folder: Path) -> None:
    blip = BlipScore(blip_file, tokenizer_folder)
    # [CLS], 33 words, [SEP]: the 34th word is the first that is not read.
    seen, unseen = ["red "] * 33, ["red "] * 34
    same, last, beyond = blip(
        ["".join(seen), "".join([*seen[:-1], "blue"]), "".join([*unseen[:-1], "blue"])],
        images(1) * 3,
    )
    assert beyond == same
    assert abs(last - same) > 10 * ATOL


# Tensors: each used once, none missing, none left over


def test_each_published_tensor_has_one_place(weights: Weights, tokenizer_folder: Path) -> None:
    model = BlipImageText(weights, tokenizer_folder, "file")
    names = [original_name(name) for name in model.state_dict()]
    assert sorted(names) == sorted(weights)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[original_name(name)]), name


def one_line(error: pytest.ExceptionInfo[AdrpoError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_no_tensor_may_be_missing(weights: Weights, tokenizer_folder: Path) -> None:
    model = BlipImageText(weights, tokenizer_folder, "blip.pth")
    for name in weights:
        rest = {other: tensor for other, tensor in weights.items() if other != name}
        with pytest.raises(AdrpoError, match=re.escape(repr(name))) as caught:
            load_exactly(model, rest, published_name=original_name, source="blip.pth")
        assert "'blip.pth'" in one_line(caught)


@pytest.mark.parametrize(
    "name",
    [
        "visual_encoder.pos_embed",
        "visual_encoder.blocks.0.mlp.fc1.weight",
        "text_encoder.embeddings.word_embeddings.weight",
        "text_encoder.encoder.layer.0.crossattention.self.key.weight",
        "text_encoder.encoder.layer.1.crossattention.self.key.bias",
        "vision_proj.weight",
        "text_proj.bias",
    ],
)
def test_a_checkpoint_without_a_tensor_is_refused(
    weights: Weights, tokenizer_folder: Path, name: str
) -> None:
    rest = {other: tensor for other, tensor in weights.items() if other != name}
    with pytest.raises(AdrpoError, match=re.escape(repr(name))) as caught:
        BlipImageText(rest, tokenizer_folder, "blip.pth")
    assert "'blip.pth'" in one_line(caught)


@pytest.mark.parametrize(
    "name", ["visual_encoder.blocks.0.attn.relative.bias", "idx_queue", "text_encoder.pooler.bias"]
)
def test_no_tensor_may_be_left_over(weights: Weights, tokenizer_folder: Path, name: str) -> None:
    with pytest.raises(AdrpoError, match=re.escape(repr(name))) as caught:
        BlipImageText({**weights, name: torch.zeros(1)}, tokenizer_folder, "blip.pth")
    assert "'blip.pth'" in one_line(caught)


def test_a_misshapen_tensor_is_named(weights: Weights, tokenizer_folder: Path) -> None:
    name = "visual_encoder.blocks.1.attn.proj.weight"
    with pytest.raises(AdrpoError, match=r"\[128, 128\].*\[128, 64\]") as caught:
        BlipImageText({**weights, name: weights[name][:, :64]}, tokenizer_folder, "blip.pth")
    assert repr(name) in one_line(caught)


def test_a_head_of_another_width_is_refused(
    weights: Weights, head: Weights, tokenizer_folder: Path, tmp_path: Path
) -> None:
    narrow = {**head, "layers.0.weight": head["layers.0.weight"][:, :64].contiguous()}
    tensors = {f"blip.{name}": tensor for name, tensor in weights.items()}
    save_file(
        tensors | {f"mlp.{name}": tensor for name, tensor in narrow.items()},
        tmp_path / "reward.safetensors",
    )
    with pytest.raises(AdrpoError, match=r"on 128 numbers.*on 64") as caught:
        ImageReward(tmp_path / "reward.safetensors", tokenizer_folder)
    one_line(caught)


@pytest.mark.parametrize("reward", [BlipScore, ImageReward])
def test_missing_files_are_named_with_their_source(
    reward: Callable[..., object], blip_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(AdrpoError, match="no such file") as caught:
        reward(tmp_path / "nowhere.pt")
    assert "model_large.pth" in one_line(caught) or "THUDM/ImageReward" in one_line(caught)


def test_a_missing_tokenizer_is_refused(blip_file: Path, tmp_path: Path) -> None:
    with pytest.raises(AdrpoError, match="tokenizer") as caught:
        BlipScore(blip_file, tmp_path)
    assert str(tmp_path) in one_line(caught)


def test_published_sizes_give_the_published_architecture() -> None:
    """ViT-L/16 at 224 pixels with 16 heads, BERT-base with 12."""
    shapes = {
        "visual_encoder.patch_embed.proj.weight": (1024, 3, 16, 16),
        "visual_encoder.pos_embed": (1, 197, 1024),
        **{f"visual_encoder.blocks.{i}.mlp.fc1.weight": (4096, 1024) for i in range(24)},
        "text_encoder.embeddings.word_embeddings.weight": (30524, 768),
        "text_encoder.embeddings.position_embeddings.weight": (512, 768),
    }
    for i in range(12):
        layer = f"text_encoder.encoder.layer.{i}"
        shapes[f"{layer}.crossattention.self.key.weight"] = (768, 1024)
        shapes[f"{layer}.intermediate.dense.weight"] = (3072, 768)
    tensors = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    vision, text = vision_config(tensors, "file"), text_config(tensors, "file")
    assert (vision.hidden_size, vision.intermediate_size) == (1024, 4096)
    assert (vision.num_hidden_layers, vision.num_attention_heads) == (24, 16)
    assert (vision.image_size, vision.patch_size) == (224, 16)
    assert (text.hidden_size, text.intermediate_size, text.encoder_hidden_size) == (768, 3072, 1024)
    assert (text.num_hidden_layers, text.num_attention_heads) == (12, 12)
    assert (text.vocab_size, text.max_position_embeddings) == (30524, 512)


# Pixels


def bicubic(values: np.ndarray, size: int) -> np.ndarray:
    """Rows of [n, ...] resampled to [size, ...] by the cubic kernel with a = -1/2, widened by the
    scale where it shrinks."""
    scale = len(values) / size
    width = max(scale, 1.0)
    center = (np.arange(size) + 0.5) * scale
    x = np.abs((np.arange(len(values)) + 0.5 - center[:, None]) / width)
    kernel = np.where(
        x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0)
    )
    kernel /= kernel.sum(axis=1, keepdims=True)
    return np.clip(np.tensordot(kernel, values, axes=1), 0, 255)


@pytest.mark.parametrize("shape", [(23, 40), (40, 23), (9, 9), (16, 16)])
def test_pixels_are_resized_cropped_and_normalized(shape: tuple[int, int]) -> None:
    array = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    height, width = (int(16 * side / min(shape)) for side in shape)  # 16 x 27
    resized = bicubic(bicubic(array.astype(float).swapaxes(0, 1), width).swapaxes(0, 1), height)
    top, left = (round((side - 16) / 2) for side in (height, width))  # 5.5 rounds to 6
    cropped = resized[top : top + 16, left : left + 16] / 255
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    expected = ((cropped - mean) / std).transpose(2, 0, 1)
    values = pixel_values([Image.fromarray(array)], 16)[0].numpy()
    # Pillow rounds to whole levels after each of its two passes.
    np.testing.assert_allclose(values, expected, rtol=0, atol=1.5 / 255 / std.min())


def test_square_pixels_agree_with_clips_image_processor() -> None:
    pictures = images(3)
    processor = CLIPImageProcessorPil()
    expected = processor(pictures, return_tensors="pt")["pixel_values"]
    # float32 rounding of the same whole levels.
    torch.testing.assert_close(pixel_values(pictures, 224), expected, rtol=0, atol=1e-5)


def test_gray_images_are_read_as_rgb() -> None:
    gray = [image.convert("L") for image in images(2)]
    as_rgb = [image.convert("RGB") for image in gray]
    assert torch.equal(pixel_values(gray, 16), pixel_values(as_rgb, 16))

"""The CLIP score against transformers' own towers, and folders that hold no usable model."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from adrpo.errors import AdrpoError
from adrpo.evaluation import clip_diversity
from adrpo.rewards import Reward, build_reward, score
from adrpo.rewards.image import ClipNovelty, ClipScore

WORDS = ["a", "red", "blue", "circle", "square", "left", "of"]
MAX_TOKENS = 8
IMAGE_SIZE = 16


def images(count: int) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 24, 24, 3), dtype=np.uint8)
    return [Image.fromarray(array) for array in pixels]


def one_line(error: pytest.ExceptionInfo[AdrpoError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP of transformers' own classes, with a tokenizer of whole words."""
    folder = tmp_path_factory.mktemp("clip")
    special = ["<|startoftext|>", "<|endoftext|>"]
    letters = sorted({letter for word in WORDS for letter in word})
    vocabulary: list[str] = [*special, *letters, *(f"{letter}</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merged = parts[0] + parts[1]
            if merged not in vocabulary:
                vocabulary.append(merged)
                merges.append((parts[0], parts[1]))
            parts = [merged, *parts[2:]]
    tokenizer = CLIPTokenizer(
        vocab={token: index for index, token in enumerate(vocabulary)},
        merges=merges,  # pyright: ignore[reportArgumentType]
    )
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE},
        crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    ).save_pretrained(folder)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    text = {
        **size,
        "num_attention_heads": 2,
        "vocab_size": len(vocabulary),
        "max_position_embeddings": MAX_TOKENS,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    vision = {**size, "num_attention_heads": 2, "image_size": IMAGE_SIZE, "patch_size": 8}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12))
    # As initialized, embeddings of all images nearly agree; larger weights tell them apart.
    for parameter in model.parameters():
        parameter.data.mul_(6)
    model.save_pretrained(folder)
    return folder


PROMPTS = ["a red circle", "a blue square left of a red circle of", "a red circle", "blue"]


def independent_scores(
    folder: Path, prompts: list[str], pictures: list[Image.Image]
) -> list[float]:
    """100 cos, one sample at a time, without padding, from the raw towers and projections."""
    model = CLIPModel.from_pretrained(folder).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    values = []
    for prompt, picture in zip(prompts, pictures, strict=True):
        ids = tokenizer(prompt)["input_ids"]
        if len(ids) > MAX_TOKENS:
            ids = [*ids[: MAX_TOKENS - 1], tokenizer.eos_token_id]
        with torch.no_grad():
            hidden = model.text_model(torch.tensor([ids])).last_hidden_state[0, -1]
            text = model.text_projection(hidden)
            pixels = processor(picture, return_tensors="pt")["pixel_values"]
            image = model.visual_projection(model.vision_model(pixels).pooler_output[0])
        values.append(100 * float(text @ image / (text.norm() * image.norm())))
    return values


def test_clip_score_is_100_times_the_cosine(clip_folder: Path) -> None:
    clip = ClipScore(clip_folder, batch_size=2)
    pictures = images(4)
    values = clip(PROMPTS, pictures)
    # float32 through two layers, other batch shapes: values of size 10 to 1e-5.
    assert values == pytest.approx(independent_scores(clip_folder, PROMPTS, pictures), abs=1e-3)
    assert np.std(np.asarray(values, dtype=float)) > 0.1
    # The score follows its own image and its own prompt.
    order = [2, 0, 3, 1]
    shuffled = clip([PROMPTS[i] for i in order], [pictures[i] for i in order])
    assert shuffled == pytest.approx([values[i] for i in order], abs=1e-3)


def test_embeddings_are_unit_rows_and_give_the_score(clip_folder: Path) -> None:
    clip = ClipScore(clip_folder)
    pictures = images(4)
    image_rows, text_rows = clip.embed_images(pictures), clip.embed_texts(PROMPTS)
    for rows in (image_rows, text_rows):
        assert rows.dtype == torch.float32
        # float32 rounding.
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(4), rtol=1e-6, atol=0)
        assert not rows.requires_grad
    assert torch.equal(text_rows[0], text_rows[2])
    product = 100 * image_rows @ text_rows.T
    values = torch.tensor(clip(PROMPTS, pictures))
    # Unique texts are embedded in another batch shape.
    torch.testing.assert_close(product.diagonal(), values, rtol=0, atol=1e-3)


def test_texts_are_cut_to_the_models_length(clip_folder: Path) -> None:
    clip = ClipScore(clip_folder)
    long, longer = "red blue " * 20, "red blue " * 40
    rows = clip.embed_texts([long, longer, "red"])
    assert torch.equal(rows[0], rows[1])
    assert not torch.allclose(rows[0], rows[2], atol=1e-3)


def test_gray_images_are_read_as_rgb(clip_folder: Path) -> None:
    clip = ClipScore(clip_folder)
    gray = [image.convert("L") for image in images(2)]
    as_rgb = [image.convert("RGB") for image in gray]
    assert torch.equal(clip.embed_images(gray), clip.embed_images(as_rgb))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdrpoError, match="no such folder") as caught:
        ClipScore(tmp_path / "nowhere")
    assert "nowhere" in one_line(caught)
    with pytest.raises(AdrpoError, match="'embeded'") as caught:
        ClipScore("embeded")
    assert "'embedded'" in one_line(caught)


def test_a_folder_without_weights_is_named(clip_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((clip_folder / "config.json").read_bytes())
    with pytest.raises(AdrpoError, match=r"model\.safetensors") as caught:
        ClipScore(tmp_path)
    assert str(tmp_path) in one_line(caught)


def copy_folder(source: Path, target: Path) -> None:
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())


def test_an_incomplete_model_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    copy_folder(clip_folder, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(AdrpoError, match=r"lack 1 tensors, 'visual_projection\.weight'") as caught:
        ClipScore(tmp_path)
    one_line(caught)


@pytest.mark.parametrize("damage", ["weights", "config"])
def test_a_damaged_model_is_refused_in_one_line(
    clip_folder: Path, tmp_path: Path, damage: str
) -> None:
    copy_folder(clip_folder, tmp_path)
    if damage == "weights":
        whole = (tmp_path / "model.safetensors").read_bytes()
        (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    else:
        (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(AdrpoError, match="can't be loaded") as caught:
        ClipScore(tmp_path)
    assert str(tmp_path) in one_line(caught)


def test_a_missing_tokenizer_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    copy_folder(clip_folder, tmp_path)
    for file in tmp_path.glob("*token*"):
        file.unlink()
    with pytest.raises(AdrpoError, match="without words") as caught:
        ClipScore(tmp_path)
    assert str(tmp_path) in one_line(caught)


def test_the_clip_score_has_a_short_name(clip_folder: Path) -> None:
    config: Any = SimpleNamespace(
        timeout=None,
        name="clip_score",
        weight=1.0,
        logistic=None,
        options={"model": str(clip_folder)},
    )
    (term,) = build_reward([config], "cpu")
    assert isinstance(term.function, ClipScore)
    reward: Reward = term.function
    pictures = images(4)
    values = score([term], prompts=PROMPTS, images=pictures).total
    # The same computation, stored as float32.
    assert values.tolist() == pytest.approx(reward(prompts=PROMPTS, images=pictures), rel=1e-6)


# Novelty


def test_mean_novelty_is_the_diversity_of_each_prompt(clip_folder: Path) -> None:
    """Two prompts of three images, not in order: the mean over a prompt is clip_diversity."""
    pictures, prompts = images(6), ["red", "blue", "red", "red", "blue", "blue"]
    reward = ClipNovelty(clip_folder)
    novelty = np.asarray(reward(prompts, pictures), dtype=np.float64)
    embeds = reward.embed_images(pictures)
    for prompt in ("red", "blue"):
        rows = [row for row, name in enumerate(prompts) if name == prompt]
        expected = clip_diversity(embeds[rows][None]).item()
        # Sums of a few float32 cosines in another order, in units of 100.
        assert novelty[rows].mean() == pytest.approx(expected, abs=1e-4)


def test_copies_have_no_novelty_and_a_lone_image_no_score(clip_folder: Path) -> None:
    first, second = images(2)
    novelty = ClipNovelty(clip_folder)(["red", "red", "blue"], [first, first.copy(), second])
    assert novelty[2] is None
    # The cosine of equal float32 vectors is 1 up to rounding.
    assert novelty[:2] == pytest.approx([0, 0], abs=1e-4)

"""The models that ship: real classes, half precision, small, and good enough to train on."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from PIL import Image
from safetensors import safe_open
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from adrpo.embedded.gold import satisfies
from adrpo.embedded.scenes import caption, hard_negatives, prompt_set
from adrpo.embedded.weights import MODELS, weights_path
from adrpo.rewards.image import ClipScore
from tools.embedded.corruptions import corrupt, draw
from tools.embedded.tokenizer import caption_words

WEIGHTS = weights_path("pipeline").parent
OTHERS = {"language_model", "language_reward", "audio_language_model"}
IMAGE_MODELS = sorted(set(MODELS) - OTHERS)


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusion3Pipeline:
    pipeline = StableDiffusion3Pipeline.from_pretrained(
        weights_path("pipeline"), text_encoder_3=None, tokenizer_3=None, dtype=torch.float32
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_the_pipeline_is_made_of_diffusers_and_transformers_classes(
    pipeline: StableDiffusion3Pipeline,
):
    assert type(pipeline.transformer) is SD3Transformer2DModel
    assert type(pipeline.vae) is AutoencoderKL
    assert type(pipeline.scheduler) is FlowMatchEulerDiscreteScheduler
    assert type(pipeline.text_encoder) is CLIPTextModelWithProjection
    assert type(pipeline.text_encoder_2) is CLIPTextModelWithProjection
    assert isinstance(pipeline.tokenizer, CLIPTokenizer)


def test_the_image_models_are_at_most_12_megabytes_in_half_precision():
    files = [
        file for name in IMAGE_MODELS for file in (WEIGHTS / name).rglob("*") if file.is_file()
    ]
    assert sum(file.stat().st_size for file in files) <= 12e6
    tensors = [file for file in files if file.suffix == ".safetensors"]
    assert len(tensors) == 6
    for file in tensors:
        with safe_open(file, framework="pt") as opened:
            dtypes = {opened.get_slice(name).get_dtype() for name in opened.keys()}
        # Position indices of CLIP are integers.
        assert "F16" in dtypes and dtypes <= {"F16", "I64"}, file


@pytest.mark.parametrize("name", sorted(MODELS))
def test_each_model_has_a_card_that_names_how_it_was_built(name: str):
    card = (weights_path(name) / "README.md").read_text(encoding="utf-8")
    for word in ("license: apache-2.0", "python -m tools.embedded", "seed", "Quality"):
        assert word in card


def test_every_caption_word_is_one_token(pipeline: StableDiffusion3Pipeline):
    for word in caption_words():
        assert len(pipeline.tokenizer(word).input_ids) == 3, word
    longest = max((caption(s) for s in prompt_set(600, split="train", seed=0)), key=len)
    assert len(pipeline.tokenizer(longest).input_ids) <= pipeline.tokenizer.model_max_length


def test_the_plain_pipeline_call_draws_the_prompt(pipeline: StableDiffusion3Pipeline):
    """With diffusers' own defaults (256 zero tokens in place of T5), as a user types it."""
    images = pipeline(
        ["a solid red square"] * 8,
        num_inference_steps=12,
        guidance_scale=2.0,
        generator=torch.Generator().manual_seed(0),
    ).images
    pixels = np.stack([np.asarray(image, dtype=float) for image in images])
    redness = pixels[..., 0] - pixels[..., 1:].max(-1)
    # Red ink covers a tenth of the picture or so; nearly every image must show some.
    assert np.mean((redness > 80).mean((1, 2)) > 0.02) >= 0.75


def rendered(count: int) -> tuple[list[str], list[Image.Image], list[Image.Image]]:
    scenes = prompt_set(count, split="held_out", seed=4)
    rng = np.random.default_rng(4)
    right = [Image.fromarray(draw(scene, index)) for index, scene in enumerate(scenes)]
    spoilt = [Image.fromarray(corrupt(scene, i, rng)) for i, scene in enumerate(scenes)]
    return [caption(scene) for scene in scenes], right, spoilt


@pytest.mark.parametrize("model", ["embedded", "embedded-evaluation"])
def test_clip_prefers_right_pictures_and_exact_captions(model: str):
    clip = ClipScore(model)
    texts, right, spoilt = rendered(90)
    margin = np.asarray(clip(texts, right)) - np.asarray(clip(texts, spoilt))
    quality = json.loads(
        Path("benchmarks/results/embedded_quality/summary.json").read_text(encoding="utf-8")
    )["evaluation_clip" if "evaluation" in model else "reward_clip"]
    beats = []
    for image, scene in zip(
        clip.embed_images(right), prompt_set(90, split="held_out", seed=4), strict=True
    ):
        scores = clip.embed_texts([caption(scene), *map(caption, hard_negatives(scene))]) @ image
        beats.append(float(scores[0] > scores[1:].max()))
    # Another sample of 90 than the card's 300: three standard errors of a share below 0.5/sqrt(90).
    assert np.mean(margin > 0) == pytest.approx(quality["beats_spoilt"], abs=0.16)
    assert np.mean(beats) == pytest.approx(quality["exact_caption"], abs=0.16)


def test_the_base_is_competent_and_imperfect(pipeline: StableDiffusion3Pipeline):
    scenes = prompt_set(60, split="held_out", seed=6)
    images = pipeline(
        [caption(scene) for scene in scenes],
        num_inference_steps=20,
        guidance_scale=1.0,
        max_sequence_length=1,
        generator=torch.Generator().manual_seed(0),
    ).images
    accuracy = np.mean([satisfies(i, s) for i, s in zip(images, scenes, strict=True)])
    # 0.35 to 0.65 over many images (the card); here 60, with a standard error of 0.06.
    assert 0.2 <= accuracy <= 0.8

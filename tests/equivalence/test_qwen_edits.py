"""Qwen-Image-Edit: what its family has that Kontext has not."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLQwenImage, DiffusionPipeline, QwenImageEditPipeline
from transformers import Qwen2VLProcessor

from adrpo.config import FlowModelSection, SamplingSection
from adrpo.errors import AdrpoError
from adrpo.flow.models.families.packing import unpack
from adrpo.flow.models.loading import as_policy, load_policy
from adrpo.flow.originals import Original
from support.family import original_of
from support.tiny_editors import EDITORS, qwen_image_edit
from support.tiny_encoders import randomised
from support.tiny_judges import MEAN, STD, TEMPLATE, checkered, patches

FAMILY = EDITORS["qwen-image-edit"]


def deep_autoencoder() -> Any:
    """As many pixels a token as make a thousand tokens of a megapixel, and few channels."""
    return randomised(
        AutoencoderKLQwenImage(
            base_dim=2,
            z_dim=4,
            dim_mult=[1, 1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True, True],
            latents_mean=[0.1, -0.2, 0.3, -0.4],
            latents_std=[0.5, 0.7, 1.5, 2.0],
        )
    )


def test_an_edit_of_any_size_reads_its_original_at_a_megapixel() -> None:
    """No argument of the call but the size, the words and the picture as its file has it."""
    parts = qwen_image_edit().components | {"vae": deep_autoencoder()}
    pipeline = QwenImageEditPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    picture = original_of("a river", width=62, height=41)
    policy = as_policy(pipeline, height=64, width=96)
    given = policy.encode(["a cat"], ["fog"], [Original(picture, None, None)])
    assert given.original.shape[1] == (832 // 32) * (1248 // 32)
    x_0 = torch.randn((1, *policy.latent_shape), generator=torch.Generator().manual_seed(7))
    for scale in (1.0, 4.0):
        sampling = SamplingSection(steps=2, guidance_scale=scale)
        ours = policy.sample(x_0, given, sampling)
        theirs = pipeline(
            picture,
            "a cat",
            negative_prompt="fog" if scale > 1 else None,
            true_cfg_scale=scale,
            height=64,
            width=96,
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(7),
            output_type="latent",
        ).images
        # As in test_families.py; an original that lies where it stands changes 9e-3.
        expected = unpack(theirs, policy.latent_shape)
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)


def test_a_negative_prompt_is_read_with_the_original() -> None:
    with FAMILY.around():
        policy = FAMILY.policy()
        own, other = (Original(original_of(name), None, None) for name in ("one", "another"))
        given = policy.encode(["a cat"] * 3, ["fog", None, "fog"], [own, own, other])
        away = policy._negatives.beside(given)
        for row, (words, original) in enumerate([("fog", own), (" ", own), ("fog", other)]):
            alone = policy.encode([words], originals=[original])
            count = int(alone.mask.sum())
            assert away.mask[row].sum() == count
            # float32 in a batch of another size, as in test_families.py.
            torch.testing.assert_close(
                away.context[row, :count], alone.context[0, :count], rtol=0, atol=1e-5
            )
            assert torch.equal(away.original[row], alone.original[0])
        assert (away.context[0] - away.context[2]).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["Qwen2VLImageProcessor", "Qwen2VLImageProcessorFast"])
def test_the_published_layout_loads_without_torchvision(kind: str, tmp_path: Path) -> None:
    """One file for the processor's pictures and one for its videos, as published."""
    FAMILY.build().save_pretrained(tmp_path)
    folder = tmp_path / "processor"
    (folder / "processor_config.json").unlink()
    pictures = {
        "image_processor_type": kind, "processor_class": "Qwen2VLProcessor", "min_pixels": 784,
        "max_pixels": 4704, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
        "image_mean": MEAN, "image_std": STD,
        "size": {"longest_edge": 4704, "shortest_edge": 784},
    }  # fmt: skip
    videos = {
        "video_processor_type": "Qwen2VLVideoProcessor",
        "processor_class": "Qwen2VLProcessor",
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures))
    (folder / "video_preprocessor_config.json").write_text(json.dumps(videos))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["processor"] == ["transformers", "Qwen2VLProcessor"]
    section = {"pretrained": str(tmp_path), "device": "cpu"}
    policy = load_policy(FlowModelSection.model_validate(section))
    processor = policy.pipeline.processor
    assert isinstance(processor, Qwen2VLProcessor)
    image = checkered(np.random.default_rng(0), 84, 56)
    found = processor(text=["<|image_pad|>"], images=[image], return_tensors="pt")
    expected, grid = patches(image)
    assert found["image_grid_thw"].tolist() == [[1, *grid]]
    assert found["input_ids"].tolist() == [[processor.image_token_id] * (grid[0] * grid[1] // 4)]
    # Both are float32 of eight bits.
    torch.testing.assert_close(found["pixel_values"], expected, rtol=0, atol=1e-5)


def test_a_processor_without_words_is_told(tmp_path: Path) -> None:
    FAMILY.build().save_pretrained(tmp_path)
    shutil.rmtree(tmp_path / "processor")
    with pytest.raises(AdrpoError, match=r"model\.pretrained: .*processor") as caught:
        load_policy(FlowModelSection(pretrained=str(tmp_path), device="cpu"))
    assert "\n" not in str(caught.value)


def test_a_prompt_is_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline's call takes the setting, and does nothing with it."""
    FAMILY.build().save_pretrained(tmp_path)
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", lambda *_, **__: pytest.fail())
    expected = r"max_sequence_length: expected null for QwenImageEditPipeline.*received 256"
    section = {"pretrained": str(tmp_path), "device": "cpu", "max_sequence_length": 256}
    with pytest.raises(AdrpoError, match=expected):
        load_policy(FlowModelSection.model_validate(section))

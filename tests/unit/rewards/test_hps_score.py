"""HPS v2.1 on small weights in OpenCLIP's layout, against plain torch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adrpo.config import RewardTermSection
from adrpo.embedded.weights import weights_path
from adrpo.errors import AdrpoError
from adrpo.rewards.hps import HpsScore, padded_pixels
from adrpo.rewards.image import load_tokenizer
from adrpo.rewards.loading import build_reward
from support.open_clip_reference import (
    IMAGE,
    POSITIONS,
    image_embeds,
    open_clip_weights,
    text_embeds,
)

TOKENIZER = weights_path("reward_clip")
PROMPTS = ["a red circle", "two blue stars", "the word cat in green", "a red circle"]
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


def pictures(*sizes: tuple[int, int]) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for width, height in sizes
    ]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As published: a pickled state dict beside other things that training saves."""
    path = tmp_path_factory.mktemp("hps") / "HPS_v2.1_compressed.pt"
    torch.save({"epoch": 1, "state_dict": open_clip_weights()}, path)
    return path


def tokens(prompts: list[str]) -> torch.Tensor:
    """As OpenCLIP's tokenizer pads: zeros behind the end."""
    ids = load_tokenizer(str(TOKENIZER))(prompts)["input_ids"]
    return torch.tensor([row + [0] * (POSITIONS - len(row)) for row in ids])


def test_scores_are_the_cosines_of_an_independent_forward(checkpoint: Path) -> None:
    images = pictures(*[(IMAGE, IMAGE)] * 4)
    weights = open_clip_weights()
    values = [torch.from_numpy(np.array(i)).permute(2, 0, 1) / 255 for i in images]
    of_images = image_embeds(weights, torch.stack([(v - MEAN) / STD for v in values]))
    of_texts = text_embeds(weights, tokens(PROMPTS))
    expected = (of_images * of_texts).sum(dim=1)
    # Neither tower is blind.
    assert expected.std() > 0.05 and (of_texts[0] - of_texts[1]).norm() > 0.1
    (term,) = build_reward(
        [RewardTermSection(
            name="hps_score",
            options={"weights": str(checkpoint), "tokenizer": str(TOKENIZER), "batch_size": 3},
        )],
        "cpu",
    )  # fmt: skip
    # float32 through two layers, in batches of other sizes.
    assert term.function(PROMPTS, images) == pytest.approx(expected.tolist(), abs=2e-5)
    assert term.function(PROMPTS, images[::-1]) != pytest.approx(expected.tolist(), abs=1e-3)
    # The conversion beside the pickle is read as well.
    again = HpsScore(checkpoint.with_suffix(".safetensors"), TOKENIZER)
    assert again(PROMPTS, images) == pytest.approx(expected.tolist(), abs=2e-5)


def test_whole_images_are_seen_with_black_beside_them() -> None:
    (wide,) = pictures((40, 20))
    (pixels,) = padded_pixels([wide], 14)
    black = (0 - MEAN) / STD
    # Seven rows of image; three black ones before it and four behind it.
    assert torch.allclose(pixels[:, :3], black.expand(3, 3, 14))
    assert torch.allclose(pixels[:, 10:], black.expand(3, 4, 14))
    small = wide.resize((14, 7), Image.Resampling.BICUBIC)
    values = torch.from_numpy(np.array(small)).permute(2, 0, 1) / 255
    assert torch.allclose(pixels[:, 3:10], (values - MEAN) / STD)
    (tall,) = padded_pixels([wide.transpose(Image.Transpose.ROTATE_90)], 14)
    assert torch.allclose(tall[:, :, :3], black.expand(3, 14, 3))


def test_other_weights_and_tokenizers_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    for change, words in (
        ("visual.proj", "lack 'visual.proj'"),
        ("transformer.resblocks.1.ln_2.bias", "lack 1 tensors"),
        (None, "1 tensors of another one, 'extra'"),
    ):
        weights = open_clip_weights() | ({"extra": torch.ones(1)} if change is None else {})
        weights.pop(change or "", None)
        path = tmp_path / f"{change}.pt"
        torch.save(weights, path)
        with pytest.raises(AdrpoError) as caught:
            HpsScore(path, TOKENIZER)
        assert words in str(caught.value) and "\n" not in str(caught.value)
    weights = open_clip_weights()
    weights["token_embedding.weight"] = weights["token_embedding.weight"][:-1]
    torch.save(weights, tmp_path / "words.pt")
    with pytest.raises(AdrpoError, match="a tokenizer with the 650 words"):
        HpsScore(tmp_path / "words.pt", TOKENIZER)
    with pytest.raises(AdrpoError, match="there is no such file; download"):
        HpsScore(tmp_path / "HPS_v2.1_compressed.pt", TOKENIZER)

"""UnifiedReward on minute weights in the published layout, against whole forward passes by hand."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from adrpo.config import RewardTermSection
from adrpo.errors import AdrpoError, AdrpoWarning
from adrpo.flow.memory.advice import _reward_parameters
from adrpo.rewards.loading import build_reward
from adrpo.rewards.unified_reward import QUESTIONS, UnifiedReward, parsed_score
from adrpo.runs.published_sizes import published_bytes
from support.tiny_judges import checkered, greedy, tokenizer, write_judge

PROMPTS = ["a cat", "a dog beside a very long bench", "x", "y <|image_pad|>z", "the sea"]
SIZES = [(56, 28), (56, 56), (84, 56), (28, 28), (112, 56)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_judge(tmp_path_factory.mktemp("judge") / "model")


def pictures() -> list[Image.Image]:
    draws = np.random.default_rng(0)
    return [checkered(draws, *size) for size in SIZES]


def judge(folder: Path, **options: Any) -> UnifiedReward:
    given = {"dtype": "float32", "batch_size": 2, "max_new_tokens": 6} | options
    (term,) = build_reward(
        [RewardTermSection(name="unified_reward", options={"model": str(folder), **given})], "cpu"
    )
    assert isinstance(term.function, UnifiedReward)
    return term.function


def test_answers_are_those_of_whole_forward_passes(folder: Path) -> None:
    """Batches, the padding before shorter questions, the cache and the processor change nothing.
    A prompt with a special token in it does not show a second picture."""
    assert {"visual.patch_embed.proj.weight", "model.embed_tokens.weight", "lm_head.weight"} <= {
        *load_file(folder / "model.safetensors")
    }
    reward = judge(folder)
    expected = [
        greedy(
            reward._model,
            QUESTIONS["final"].replace("{prompt}", prompt.replace("<|image_pad|>", "")),
            image,
            most=6,
        )
        for prompt, image in zip(PROMPTS, pictures(), strict=True)
    ]
    samples = list(zip(PROMPTS, pictures(), strict=True))
    found = reward._ask(samples[:2]) + reward._ask(samples[2:])
    assert found == ["".join(words) for words in expected]
    # Neither picture nor prompt is left unread: answers differ, also to one question.
    assert len(set(found)) == 4
    others = reward._ask([(PROMPTS[0], image) for image in pictures()])
    assert len(set(others)) > 1


def test_the_score_is_read_and_an_answer_without_one_is_none(folder: Path) -> None:
    reward = judge(folder)
    with pytest.warns(
        AdrpoWarning, match=r"expected an answer with 'Final Score:' .*'dog \(animal"
    ):
        scores = reward(PROMPTS, pictures())
    assert scores == [1.5, 4.25, None, 4.25, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is told once
        assert reward(PROMPTS[2:3], pictures()[2:3]) == [None]


def test_an_answer_is_cut_where_it_may_go_no_further(folder: Path) -> None:
    short = judge(folder, max_new_tokens=1)
    assert short._ask([(PROMPTS[0], pictures()[0])]) == ["cat (animal): 1\n"]


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("cat (animal): 1\nFinal Score: 3.62", 3.62),
        ("Final Score:5", 5.0),
        ("Final Score:\n1.0", 1.0),
        ("Final Score: 4/5. Final Score: 2", 4.0),
        ("Final Score: 4.", 4.0),
        # Beyond the scale, the first digit of 10 among them.
        ("Final Score: 10", None),
        ("Final Score: 5.1", None),
        ("Final Score: 0", None),
        ("Final Score: -3", None),
        ("Final Score: five", None),
        ("Score: 3", None),
        ("", None),
    ],
)
def test_final_scores(answer: str, score: float | None) -> None:
    assert parsed_score(answer, "final") == score


def test_dimensions_are_averaged_and_none_may_be_missing() -> None:
    lines = ["Alignment Score (1-5): 2.7", "Coherence Score (1-5): 2.4", "Style Score (1-5): 3.0"]
    assert parsed_score("\n".join(lines), "dimensions") == pytest.approx(2.7)
    assert parsed_score("\n".join(lines[::-1]), "dimensions") == pytest.approx(2.7)
    assert parsed_score("\n".join(lines[:2]), "dimensions") is None
    assert parsed_score("\n".join([*lines[:2], "Style Score (1-5): 6"]), "dimensions") is None


def test_the_form_of_the_question_is_that_of_the_model(folder: Path) -> None:
    reward = judge(folder, form="dimensions")
    assert reward._question("{prompt}").endswith("Text Caption: [{prompt}]")
    assert "Coherence Score (1-5): Y" in reward._question("a cat")
    assert reward._question("a<|im<|im_end|>_end|>b").endswith("[ab]")


def changed(folder: Path, target: Path, **settings: Any) -> Path:
    """A copy whose config.json has these keys."""
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    described = json.loads((target / "config.json").read_text()) | settings
    (target / "config.json").write_text(json.dumps(described))
    return target


def test_other_files_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    incomplete = changed(folder, tmp_path / "incomplete")
    tensors = load_file(incomplete / "model.safetensors")
    del tensors["visual.merger.ln_q.weight"]
    save_file(tensors, incomplete / "model.safetensors", metadata={"format": "pt"})
    untold = changed(folder, tmp_path / "untold")
    (untold / "chat_template.json").unlink()
    cases = {
        incomplete: "its weights lack 1 tensors, 'model.visual.merger.ln_q.weight'",
        untold: "expected a chat template beside the vision-language model",
        changed(folder, tmp_path / "other", model_type="llava_onevision"): (
            "expected a model of qwen2_5_vl or qwen3_vl"
        ),
        tmp_path / "nowhere": "there is no such folder",
        tmp_path: "expected a vision-language model with weights",
    }
    for model, words in cases.items():
        with pytest.raises(AdrpoError) as caught:
            UnifiedReward(model)
        assert words in str(caught.value) and "\n" not in str(caught.value)
    for options, words in (
        ({"dtype": "float16"}, "expected bfloat16 or float32, received 'float16'"),
        ({"form": "think"}, "expected form final or dimensions, received 'think'"),
        ({"batch_size": 0}, "expected batch_size >= 1, received 0"),
        ({"max_new_tokens": 0}, "expected max_new_tokens >= 1, received 0"),
    ):
        with pytest.raises(AdrpoError, match=words):
            judge(folder, **options)


def test_it_is_qwen3_vl_too(folder: Path, tmp_path: Path) -> None:
    """The architecture of later releases, whose weights are as transformers writes them."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    words = tokenizer()
    names = ("image_pad", "video_pad", "vision_start", "vision_end", "im_end", "endoftext")
    known: Any = {name: words.convert_tokens_to_ids(f"<|{name}|>") for name in names}
    torch.manual_seed(0)
    model: Any = Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            text_config={
                "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 48,
                "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
                "head_dim": 16,
                "rope_parameters": {
                    "rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2],
                },
            },
            vision_config={
                "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2,
                "out_hidden_size": 32, "patch_size": 16, "num_position_embeddings": 64,
                "deepstack_visual_indexes": [0],
            },
            image_token_id=known["image_pad"],
            video_token_id=known["video_pad"],
            vision_start_token_id=known["vision_start"],
            vision_end_token_id=known["vision_end"],
        )
    )  # fmt: skip
    for name, value in model.named_parameters():
        if "norm" not in name:
            value.data = 0.5 * torch.randn_like(value)
    target = changed(folder, tmp_path / "qwen3")
    model.config.save_pretrained(target)
    model.generation_config.eos_token_id = known["im_end"]
    model.generation_config.pad_token_id = known["endoftext"]
    model.save_pretrained(target)
    described = json.loads((target / "preprocessor_config.json").read_text())
    (target / "preprocessor_config.json").write_text(json.dumps(described | {"patch_size": 16}))
    reward = judge(target, max_new_tokens=8)
    samples = list(zip(PROMPTS, pictures(), strict=True))
    alone = [answer for sample in samples for answer in reward._ask([sample])]
    assert reward._ask(samples) == alone and len(set(alone)) > 1


def test_doctor_counts_its_weights_in_16_bits() -> None:
    asked = RewardTermSection(name="unified_reward")
    what, halved = _reward_parameters(asked)
    assert what == "unified_reward CodeGoat24/UnifiedReward-qwen-3b"
    whole = asked.model_copy(update={"options": {"dtype": "float32"}})
    assert _reward_parameters(whole) == (what, 2 * (halved or 0))
    assert published_bytes("CodeGoat24/UnifiedReward-qwen-3b") == 4 * (halved or 0)

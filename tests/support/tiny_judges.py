"""A minute Qwen2.5-VL of random weights, in the layout in which UnifiedReward is published."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from adrpo.rewards.unified_reward import QUESTIONS
from support.tiny_encoders import BYTES, randomised

PATCH, MERGE, TWICE = 14, 2, 2
"""Pixels of a patch, patches of a token's side, and frames that a picture counts as."""
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
WORDS = ("Final Score: 1.5", "Final Score: 4.25", "cat (animal): 1\n", "dog (animal): 0\n")
"""All that the model says, a token each."""
TEMPLATE = (
    "<|im_start|>system\nYou judge.<|im_end|>\n{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% for part in m.content %}{% if part.type == 'image' %}" + PICTURE + "{% else %}"
    "{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}{{ '<|im_start|>assistant\\n' }}"
)


def tokenizer() -> Qwen2Tokenizer:
    pieces = [SPECIAL[0], *BYTES]
    made = Qwen2Tokenizer(
        vocab={piece: index for index, piece in enumerate(pieces)},
        merges=[],
        extra_special_tokens=list(SPECIAL[1:]),
    )
    made.add_tokens(list(WORDS))
    return made


def write_judge(folder: Path, *, says: tuple[str, ...] = WORDS) -> Path:
    """The files of a model that says of ``says`` what its random weights tell it, until it ends."""
    words = tokenizer()
    ids: dict[str, int] = {name: words.convert_tokens_to_ids(name) for name in (*SPECIAL, *says)}  # type: ignore[misc]
    settings = config(words, ids)
    torch.manual_seed(3)  # by which some answers have a score, and others end before it
    model: Any = randomised(
        Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig.from_dict(settings))
    )
    spoken = [ids[name] for name in (*says, "<|im_end|>")]
    # What is read of picture and question outweighs the last token itself.
    for name, value in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight")):
            value.data *= 8
    model.lm_head.weight.data[spoken] = apart(model, len(spoken))
    published = {
        name.replace("model.visual.", "visual.").replace("model.language_model.", "model."): value
        for name, value in model.state_dict().items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.contiguous() for name, value in published.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    words.save_pretrained(folder)
    ends = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    for name, content in {
        "config.json": settings,
        "generation_config.json": {
            "do_sample": True, "temperature": 1e-6, "repetition_penalty": 1.05,
            "eos_token_id": ends, "pad_token_id": ids["<|endoftext|>"],
            "suppress_tokens": [word for word in range(len(words)) if word not in spoken],
        },
        "preprocessor_config.json": {
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2_5_VLProcessor",
            "min_pixels": 784, "max_pixels": 12845056, "patch_size": PATCH,
            "temporal_patch_size": TWICE, "merge_size": MERGE, "image_mean": MEAN,
            "image_std": STD,
        },
        "chat_template.json": {"chat_template": TEMPLATE},
    }.items():  # fmt: skip
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


@torch.inference_mode()
def apart(model: Any, count: int) -> torch.Tensor:
    """Rows of a head by which a model of random weights, which says nearly the same of everything,
    tells one picture and question from another: what they change in its last state."""
    draws = np.random.default_rng(7)
    states = []
    for place in range(count):
        question = QUESTIONS["final"].replace("{prompt}", "abcdefgh"[: place + 1])
        pixels, grid, ids = asked(question, checkered(draws, 56, 28 + 28 * (place % 2)))
        if place == count - 1:  # the end is what is said after a word
            ids = torch.cat([ids, torch.tensor([[len(tokenizer()) - 1]])], dim=1)
        states.append(model.model(**seen(ids, pixels, grid)).last_hidden_state[0, -1])
    found = torch.stack(states)
    mean = found.mean(0)
    differences = found - mean
    return 20 * (differences - differences @ mean[:, None] * mean / mean.square().sum())


def checkered(draws: np.random.Generator, width: int, height: int) -> Image.Image:
    """Squares of a patch, each of one color."""
    squares = draws.integers(0, 256, (height // PATCH, width // PATCH, 3), dtype=np.uint8)
    return Image.fromarray(squares.repeat(PATCH, 0).repeat(PATCH, 1))


def asked(question: str, image: Image.Image) -> tuple[torch.Tensor, tuple[int, int], torch.Tensor]:
    """Pixels, patches and tokens of a question, written out by hand."""
    pixels, (high, wide) = patches(image)
    shown = PICTURE.replace("<|image_pad|>", "<|image_pad|>" * (high * wide // MERGE**2))
    text = TEMPLATE.partition("{%")[0] + (
        f"<|im_start|>user\n{shown}{question}<|im_end|>\n<|im_start|>assistant\n"
    )
    return pixels, (high, wide), torch.tensor([tokenizer()(text)["input_ids"]])


def seen(ids: torch.Tensor, pixels: torch.Tensor, grid: tuple[int, int]) -> dict[str, Any]:
    """Arguments of a whole forward pass."""
    kinds = ids.eq(int(tokenizer().convert_tokens_to_ids("<|image_pad|>"))).int()  # type: ignore[arg-type]
    return {
        "input_ids": ids, "pixel_values": pixels, "image_grid_thw": torch.tensor([[1, *grid]]),
        "mm_token_type_ids": kinds, "use_cache": False,
    }  # fmt: skip


def config(words: Qwen2Tokenizer, ids: dict[str, int]) -> dict[str, Any]:
    """config.json as Qwen2.5-VL's is published: the language model's keys are not in a section."""
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "vocab_size": len(words),
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 4096,
        "rope_theta": 1e4, "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
        "tie_word_embeddings": False,
        "bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|im_end|>"],
        "image_token_id": ids["<|image_pad|>"], "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "vision_config": {
            "model_type": "qwen2_5_vl", "depth": 2, "hidden_size": 32, "intermediate_size": 48,
            "num_heads": 2, "out_hidden_size": 32, "patch_size": PATCH,
            "spatial_merge_size": MERGE, "temporal_patch_size": TWICE, "window_size": 56,
            "fullatt_block_indexes": [1],
        },
    }  # fmt: skip


def patches(image: Image.Image) -> tuple[torch.Tensor, tuple[int, int]]:
    """Pixels [patches, 3 * 2 * 14 * 14] of an image whose sides are multiples of 28, and how many
    patches it is high and wide: token after token, each of 2 x 2 patches, twice in time."""
    values = (np.asarray(image, dtype=np.float64) / 255 - MEAN) / STD
    high, wide = (side // PATCH for side in values.shape[:2])
    rows = []
    for top in range(0, high, MERGE):
        for left in range(0, wide, MERGE):
            for y in range(top, top + MERGE):
                for x in range(left, left + MERGE):
                    square = values[y * PATCH :, x * PATCH :][:PATCH, :PATCH].transpose(2, 0, 1)
                    rows.append(np.stack([square] * TWICE, axis=1).ravel())
    return torch.tensor(np.array(rows), dtype=torch.float32), (high, wide)


@torch.inference_mode()
def greedy(model: Any, question: str, image: Image.Image, *, most: int) -> list[str]:
    """The words of the answer by whole forward passes, a sample and a token at a time."""
    words = tokenizer()
    pixels, grid, ids = asked(question, image)
    said: list[int] = []
    while len(said) < most:
        logits = model(**seen(ids, pixels, grid)).logits[0, -1]
        # The penalty of generation_config.json (Keskar et al., arXiv 1909.05858).
        used = ids[0].unique()
        logits[used] = torch.where(logits[used] > 0, logits[used] / 1.05, logits[used] * 1.05)
        logits[model.generation_config.suppress_tokens] = -torch.inf
        token = int(logits.argmax())
        if words.decode([token]) == "<|im_end|>":
            break
        said.append(token)
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    return [str(words.decode([token])) for token in said]

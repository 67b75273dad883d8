"""Minute text encoders and their tokenizers, of transformers' own classes.

Random weights from a fixed seed, and tokenizers of characters.
"""

from typing import Any

import torch
from tokenizers import pre_tokenizers
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    T5EncoderModel,
    T5Tokenizer,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz"
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
WIDTH = 16
"""Width of every text encoder."""


def randomised(module: nn.Module) -> nn.Module:
    """Move every parameter, so that none is a zero that hides what it multiplies."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def clip_tokenizer() -> CLIPTokenizer:
    pieces = [*BYTES, *(symbol + "</w>" for symbol in BYTES), "<|startoftext|>", "<|endoftext|>"]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocab, merges=[], model_max_length=32)


def clip_encoder(kind: type, tokenizer: CLIPTokenizer) -> Any:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return randomised(kind(config))


def t5(width: int, kind: type = T5EncoderModel) -> tuple[T5Tokenizer, nn.Module]:
    """A tokenizer and an encoder of class ``kind``, T5's or that of many languages."""
    pieces = ["<pad>", "</s>", "<unk>", "▁", *LETTERS]
    tokenizer = T5Tokenizer(vocab=[(piece, -1.0) for piece in pieces], extra_ids=0)
    config = kind.config_class(
        vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2
    )
    return tokenizer, randomised(kind(config))


def qwen_tokenizer() -> Qwen2Tokenizer:
    pieces = ["<|endoftext|>", *BYTES, "<|im_start|>", "<|im_end|>"]
    tokenizer = Qwen2Tokenizer(
        vocab={piece: index for index, piece in enumerate(pieces)},
        merges=[],
        extra_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    )
    return tokenizer


def qwen3(kind: type, layers: int) -> tuple[Qwen2Tokenizer, nn.Module]:
    """A tokenizer and an encoder of class ``kind``, Qwen3Model or the one that has a head."""
    tokenizer = qwen_tokenizer()
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
    )
    return tokenizer, randomised(kind(config))


def mistral3(layers: int) -> tuple[Qwen2Tokenizer, nn.Module]:
    """A tokenizer whose template leaves out the system's words, and an encoder that also sees.

    Real files have a PixtralProcessor in the tokenizer's place, which needs torchvision.
    """
    tokenizer = qwen_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages if m.role == 'user' %}"
        "<|im_start|>{{ m.content[0].text }}<|im_end|>{% endfor %}"
    )
    text_config = {
        "model_type": "mistral",
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 8,
    }
    vision_config = {
        "model_type": "pixtral",
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 8,
        "image_size": 32,
        "patch_size": 16,
    }
    config = Mistral3Config(text_config=text_config, vision_config=vision_config)
    return tokenizer, randomised(Mistral3ForConditionalGeneration(config))


PLACES = {
    "image_token": "image_pad",
    "video_token": "video_pad",
    "vision_start_token": "vision_start",
    "vision_end_token": "vision_end",
}
"""Names of a vision-language model's settings, and the tokens of its tokenizer that they are of."""


def qwen2_5_vl(tokenizer: Qwen2Tokenizer) -> nn.Module:
    """An encoder of words, and of pictures where the tokenizer has places for them."""
    text_config = {
        "vocab_size": len(tokenizer),
        "bos_token_id": None,
        "eos_token_id": None,
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e4,
            "mrope_section": [1, 1, 2],
        },
    }
    vision_config = {
        "depth": 1,
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
    }
    pictures: dict[str, Any] = {
        f"{name}_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>")
        for name, token in PLACES.items()
        if f"<|{token}|>" in tokenizer.get_vocab()
    }
    config = Qwen2_5_VLConfig(text_config=text_config, vision_config=vision_config, **pictures)
    return randomised(Qwen2_5_VLForConditionalGeneration(config))


def gemma() -> tuple[GemmaTokenizer, nn.Module]:
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *LETTERS]
    tokenizer = GemmaTokenizer(vocab={p: i for i, p in enumerate(pieces)}, merges=[])
    config = Gemma2Config(
        vocab_size=len(pieces),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    return tokenizer, randomised(Gemma2Model(config))

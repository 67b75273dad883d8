"""A language model of a few thousand parameters and its tokenizer, built in memory."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

CONTEXT = 48
LETTERS = list("abcdefghijkl")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ' ' + message['content'] + ' ' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant ' }}{% endif %}"
)


def tiny_tokenizer(*, pad: bool = True, eos: bool = True) -> PreTrainedTokenizerFast:
    """One token a word: the letters a to l and the roles of a conversation."""
    words = ["<unk>", "<pad>", "<eos>", "user", "assistant", *LETTERS]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", padding_side="left"
    )
    fast.chat_template = CHAT_TEMPLATE
    if pad:
        fast.pad_token = "<pad>"
    if eos:
        fast.eos_token = "<eos>"
    return fast


def save_tiny_model(folder: Path, *, width: int = 16) -> Path:
    """Two layers of ``width``, with Qwen3's architecture, random weights and seed 0."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tiny_tokenizer()),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=width // 2,
        max_position_embeddings=CONTEXT,
        eos_token_id=2,
        pad_token_id=1,
        # Wide enough that tokens differ in probability.
        initializer_range=0.3,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder

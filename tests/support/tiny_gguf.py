"""A Llama of a few thousand parameters, and the GGUF file that llama.cpp would have of it."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

LETTERS = "abcdefghijkl"
SPACE = "Ġ"  # a space in byte-level BPE
# Its first is one that transformers adds to byte-level vocabularies which lack it.
TOKENS = [
    "<|endoftext|>",
    "<pad>",
    "<eos>",
    *LETTERS,
    SPACE,
    *(SPACE + letter for letter in LETTERS),
]
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
"""transformers' name of a layer's weight -> llama.cpp's."""


def tiny_llama() -> LlamaForCausalLM:
    """Two layers of width 16, random weights, seed 0; the output layer is the embedding."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=48,
        tie_word_embeddings=True,
        # Wide enough that tokens differ in probability.
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config)


def write_gguf(model: LlamaForCausalLM, path: Path) -> Path:
    """The model with a byte-level tokenizer, its weights in float32 as they are."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    _write_sizes(writer, model.config)
    _write_tokenizer(writer)
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":  # the embedding
            values = _interleaved(name, tensor, model.config)
            writer.add_tensor(_name(name), values.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _write_sizes(writer: Any, config: Any) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _write_tokenizer(writer: Any) -> None:
    import gguf

    kinds = [gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(TOKENS) - 3)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{SPACE} {letter}" for letter in LETTERS])
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_bos_token_id(2)


def _name(name: str) -> str:
    whole = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
    }
    if name in whole:
        return whole[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{NAMES[rest.removesuffix('.weight')]}.weight"


def _interleaved(name: str, weight: Tensor, config: Any) -> Tensor:
    """llama.cpp rotates neighbouring pairs, transformers the two halves of a head: of queries and
    keys, row 2 i + j there is row j (head_dim / 2) + i here."""
    if "q_proj" in name:
        heads = config.num_attention_heads
    elif "k_proj" in name:
        heads = config.num_key_value_heads
    else:
        return weight
    halves = weight.view(heads, 2, config.head_dim // 2, weight.shape[1])
    return halves.transpose(1, 2).reshape(weight.shape)

"""CLIP as OpenCLIP publishes it, on transformers' modules."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adrpo.errors import AdrpoError
from adrpo.rewards.conversion import load_exactly

TEXT_HEAD_WIDTH = 64
"""Width of an attention head of the text towers; the tensors don't tell the number of heads."""

NAMES = (
    ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.final_layer_norm.", "ln_final."),
    ("text_model.encoder.layers.", "transformer.resblocks."),
    ("text_projection.weight", "text_projection"),
    ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    ("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"),
    # The misspelling is transformers' own.
    ("vision_model.pre_layrnorm.", "visual.ln_pre."),
    ("vision_model.post_layernorm.", "visual.ln_post."),
    ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
    ("visual_projection.weight", "visual.proj"),
    (".layer_norm1.", ".ln_1."),
    (".layer_norm2.", ".ln_2."),
    (".self_attn.", ".attn."),
    (".mlp.fc1.", ".mlp.c_fc."),
    (".mlp.fc2.", ".mlp.c_proj."),
)
"""Fragments of transformers' names -> OpenCLIP's own."""


def open_clip_name(name: str) -> str:
    """The name of one of ``CLIPModel``'s tensors in OpenCLIP's layout, after
    :func:`separate_projections`."""
    for ours, original in NAMES:
        if ours in name:
            name = name.replace(ours, original, 1)
    return name


def separate_projections(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OpenCLIP's tensors with the joint projection of queries, keys and values in three, and the
    projections into the common space as matrices that multiply from the left.

    ``attn.in_proj_weight`` [3 width, width] becomes ``attn.q_proj.weight``, ``k_proj`` and
    ``v_proj``, and its bias likewise; ``text_projection`` and ``visual.proj`` are transposed.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        stem, _, kind = name.rpartition("in_proj_")
        if stem:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                found[f"{stem}{letter}_proj.{kind}"] = part
        elif name in ("text_projection", "visual.proj"):
            found[name] = tensor.T
        else:
            found[name] = tensor
    return found


def open_clip_model(
    tensors: Mapping[str, Tensor], *, vision_head_width: int, source: str
) -> torch.nn.Module:
    """``CLIPModel`` of transformers with OpenCLIP's weights of a ViT with exact GELU, in float32.

    All sizes are read from the tensors but the width of the vision tower's attention heads, which
    leaves no trace in them (80 of ViT-H/14, 64 of smaller ones).

    Args:
        tensors: a state dict of OpenCLIP's ``CLIP`` by its own names; no other, none missing.
        vision_head_width: of ``model_configs``' ``head_width``.
        source: the file, for error messages.

    Raises:
        AdrpoError: a tensor is missing, left over or misshapen.
    """
    from transformers import CLIPConfig, CLIPModel

    # ``Any``: the class wraps itself for its documentation, which hides its arguments.
    config: Any = CLIPConfig(**_sizes(tensors, vision_head_width, source))
    model = CLIPModel(config)
    load_exactly(model, separate_projections(tensors), published_name=open_clip_name, source=source)
    return model.eval().requires_grad_(False)


def _sizes(tensors: Mapping[str, Tensor], head_width: int, source: str) -> dict[str, Any]:
    """Arguments of ``CLIPConfig``."""
    try:
        words, text_width = tensors["token_embedding.weight"].shape
        vision_width, _, patch, _ = tensors["visual.conv1.weight"].shape
        places = tensors["visual.positional_embedding"].shape[0] - 1
        text = {
            "hidden_size": text_width,
            "intermediate_size": tensors["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
            "num_hidden_layers": _layers(tensors, "transformer.resblocks."),
            "num_attention_heads": text_width // TEXT_HEAD_WIDTH,
            "max_position_embeddings": tensors["positional_embedding"].shape[0],
            "vocab_size": words,
            "hidden_act": "gelu",
            # A text is read at its end, which is the greatest number of the vocabulary.
            "bos_token_id": words - 2,
            "eos_token_id": words - 1,
            "pad_token_id": 0,
        }
        vision = {
            "hidden_size": vision_width,
            "intermediate_size": tensors["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
            "num_hidden_layers": _layers(tensors, "visual.transformer.resblocks."),
            "num_attention_heads": vision_width // head_width,
            "image_size": round(places**0.5) * patch,
            "patch_size": patch,
            "hidden_act": "gelu",
        }
        projection = tensors["visual.proj"].shape[1]
    except KeyError as error:
        raise AdrpoError(
            f"expected weights in OpenCLIP's layout in {source!r}, but they lack "
            f"{error.args[0]!r}: name the published file"
        ) from None
    return {"text_config": text, "vision_config": vision, "projection_dim": projection}


def _layers(tensors: Mapping[str, Tensor], prefix: str) -> int:
    numbers = {
        name.removeprefix(prefix).partition(".")[0] for name in tensors if name.startswith(prefix)
    }
    return len(numbers)

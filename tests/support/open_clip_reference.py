"""A small CLIP in OpenCLIP's layout: names and shapes, random weights, and plain torch.

Heads are 80 wide in ViT-H/14's vision tower and 64 in its text tower, so widths of 160 and 128 give
two of each: the smallest that shows whether heads are split as published.
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, gelu, layer_norm, linear, normalize

WORDS, POSITIONS, PATCH, IMAGE, LAYERS, PROJECTION = 651, 16, 7, 14, 2, 12
VISION_WIDTH, TEXT_WIDTH, HIDDEN = 160, 128, 72

Weights = dict[str, Tensor]


def open_clip_weights(seed: int = 0) -> Weights:
    """Random weights by the names of OpenCLIP's own code, written out from its modules."""
    generator = torch.Generator().manual_seed(seed)
    weights: Weights = {}

    def drawn(name: str, *shape: int, size: float = 0.2, about: float = 0.0) -> None:
        weights[name] = about + size * torch.randn(shape, generator=generator)

    def norm(name: str, width: int) -> None:
        drawn(f"{name}.weight", width, about=1.0)
        drawn(f"{name}.bias", width)

    def tower(prefix: str, width: int) -> None:
        for layer in range(LAYERS):
            block = f"{prefix}resblocks.{layer}"
            norm(f"{block}.ln_1", width)
            norm(f"{block}.ln_2", width)
            drawn(f"{block}.attn.in_proj_weight", 3 * width, width)
            drawn(f"{block}.attn.in_proj_bias", 3 * width)
            drawn(f"{block}.attn.out_proj.weight", width, width)
            drawn(f"{block}.attn.out_proj.bias", width)
            drawn(f"{block}.mlp.c_fc.weight", HIDDEN, width)
            drawn(f"{block}.mlp.c_fc.bias", HIDDEN)
            drawn(f"{block}.mlp.c_proj.weight", width, HIDDEN)
            drawn(f"{block}.mlp.c_proj.bias", width)

    drawn("positional_embedding", POSITIONS, TEXT_WIDTH)
    drawn("text_projection", TEXT_WIDTH, PROJECTION)
    weights["logit_scale"] = torch.tensor(4.6)
    drawn("token_embedding.weight", WORDS, TEXT_WIDTH, size=1.0)
    tower("transformer.", TEXT_WIDTH)
    norm("ln_final", TEXT_WIDTH)
    drawn("visual.class_embedding", VISION_WIDTH)
    drawn("visual.positional_embedding", 1 + (IMAGE // PATCH) ** 2, VISION_WIDTH)
    drawn("visual.proj", VISION_WIDTH, PROJECTION)
    drawn("visual.conv1.weight", VISION_WIDTH, 3, PATCH, PATCH)
    norm("visual.ln_pre", VISION_WIDTH)
    tower("visual.transformer.", VISION_WIDTH)
    norm("visual.ln_post", VISION_WIDTH)
    return weights


def image_embeds(weights: Weights, pixels: Tensor) -> Tensor:
    """Unit embeddings of pixels [images, 3, IMAGE, IMAGE]."""
    patches = conv2d(pixels, weights["visual.conv1.weight"], stride=PATCH).flatten(2).mT
    first = weights["visual.class_embedding"].expand(len(pixels), 1, -1)
    x = torch.cat([first, patches], dim=1) + weights["visual.positional_embedding"]
    x = _norm(weights, "visual.ln_pre", x)
    x = _tower(weights, "visual.transformer.", x, width=80, causal=False)
    x = _norm(weights, "visual.ln_post", x[:, 0])
    return normalize(x @ weights["visual.proj"], dim=-1)


def text_embeds(weights: Weights, tokens: Tensor) -> Tensor:
    """Unit embeddings of tokens [texts, POSITIONS], zeros behind each text's end, the greatest."""
    x = weights["token_embedding.weight"][tokens] + weights["positional_embedding"]
    x = _tower(weights, "transformer.", x, width=64, causal=True)
    x = _norm(weights, "ln_final", x)[torch.arange(len(x)), tokens.argmax(dim=1)]
    return normalize(x @ weights["text_projection"], dim=-1)


def _norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    return layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def _tower(weights: Weights, prefix: str, x: Tensor, *, width: int, causal: bool) -> Tensor:
    for layer in range(LAYERS):
        block = f"{prefix}resblocks.{layer}"
        own = {n.removeprefix(f"{block}."): w for n, w in weights.items() if n.startswith(block)}
        y = _norm(own, "ln_1", x)
        joint = linear(y, own["attn.in_proj_weight"], own["attn.in_proj_bias"])
        heads = joint.unflatten(-1, (3, -1, width)).permute(2, 0, 3, 1, 4)
        q, k, v = heads
        scores = q @ k.mT / width**0.5
        if causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(later, -torch.inf)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + linear(mixed, own["attn.out_proj.weight"], own["attn.out_proj.bias"])
        y = gelu(linear(_norm(own, "ln_2", x), own["mlp.c_fc.weight"], own["mlp.c_fc.bias"]))
        x = x + linear(y, own["mlp.c_proj.weight"], own["mlp.c_proj.bias"])
    return x

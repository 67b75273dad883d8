"""A small BLIP in the layout of its authors: names and shapes, random weights, and plain torch.

Heads are 64 wide in every BLIP, so widths of 128 give two of them: the smallest that shows
whether heads are split as published.
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, gelu, layer_norm, linear

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "circle", "square"]
WIDTH, HEADS, PATCH, IMAGE, LAYERS = 128, 2, 8, 16, 2
TEXT_HIDDEN, VISION_HIDDEN, PROJECTION, POSITIONS = 80, 96, 12, 40

Weights = dict[str, Tensor]


def original_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of BLIP's own code, written out from its modules."""
    shapes: dict[str, tuple[int, ...]] = {}

    def affine(name: str, width_in: int, width_out: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (width_out, width_in), (width_out,)

    def norm(name: str) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (WIDTH,), (WIDTH,)

    shapes["visual_encoder.cls_token"] = (1, 1, WIDTH)
    shapes["visual_encoder.pos_embed"] = (1, 1 + (IMAGE // PATCH) ** 2, WIDTH)
    shapes["visual_encoder.patch_embed.proj.weight"] = (WIDTH, 3, PATCH, PATCH)
    shapes["visual_encoder.patch_embed.proj.bias"] = (WIDTH,)
    norm("visual_encoder.norm")
    shapes["text_encoder.embeddings.word_embeddings.weight"] = (len(WORDS) + 2, WIDTH)
    shapes["text_encoder.embeddings.position_embeddings.weight"] = (POSITIONS, WIDTH)
    norm("text_encoder.embeddings.LayerNorm")
    for i in range(LAYERS):
        block = f"visual_encoder.blocks.{i}"
        norm(f"{block}.norm1")
        norm(f"{block}.norm2")
        affine(f"{block}.attn.qkv", WIDTH, 3 * WIDTH)
        affine(f"{block}.attn.proj", WIDTH, WIDTH)
        affine(f"{block}.mlp.fc1", WIDTH, VISION_HIDDEN)
        affine(f"{block}.mlp.fc2", VISION_HIDDEN, WIDTH)
        layer = f"text_encoder.encoder.layer.{i}"
        for attention in ("attention", "crossattention"):
            for part in ("self.query", "self.key", "self.value", "output.dense"):
                affine(f"{layer}.{attention}.{part}", WIDTH, WIDTH)
            norm(f"{layer}.{attention}.output.LayerNorm")
        affine(f"{layer}.intermediate.dense", WIDTH, TEXT_HIDDEN)
        affine(f"{layer}.output.dense", TEXT_HIDDEN, WIDTH)
        norm(f"{layer}.output.LayerNorm")
    affine("vision_proj", WIDTH, PROJECTION)
    affine("text_proj", WIDTH, PROJECTION)
    return shapes


def random_weights() -> Weights:
    rng = torch.Generator().manual_seed(0)
    result = {}
    for name, shape in original_shapes().items():
        noise = torch.randn(shape, generator=rng)
        if len(shape) == 1:
            result[name] = 0.3 * noise + ("norm" in name.lower() and name.endswith("weight"))
        elif "embed" in name or "cls_token" in name:
            # Variances near the published epsilons, which another epsilon would give away.
            result[name] = (1e-3 if name.startswith("visual") else 1e-5) * noise
        else:
            result[name] = 1.5 * noise / shape[-1] ** 0.5
    return result


class Reference:
    """BLIP in float64, straight from the original tensors, one sample at a time."""

    def __init__(self, weights: Weights) -> None:
        self.weights = {name: tensor.double() for name, tensor in weights.items()}

    def affine(self, name: str, x: Tensor) -> Tensor:
        return linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def norm(self, name: str, x: Tensor, eps: float) -> Tensor:
        return layer_norm(
            x, (WIDTH,), self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], eps
        )

    @staticmethod
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """softmax(q k^T / sqrt(64)) v of each head, [tokens, WIDTH]."""
        q, k, v = (x.view(len(x), HEADS, 64).transpose(0, 1) for x in (q, k, v))
        return ((q @ k.mT / 8).softmax(-1) @ v).transpose(0, 1).reshape(-1, WIDTH)

    def image_tokens(self, pixels: Tensor) -> Tensor:
        w, pre = self.weights, "visual_encoder"
        patches = conv2d(
            pixels.double()[None],
            w[f"{pre}.patch_embed.proj.weight"],
            w[f"{pre}.patch_embed.proj.bias"],
            stride=PATCH,
        )
        x = (
            torch.cat([w[f"{pre}.cls_token"][0], patches[0].flatten(1).T])
            + w[f"{pre}.pos_embed"][0]
        )
        for i in range(LAYERS):
            block = f"{pre}.blocks.{i}"
            qkv = self.affine(f"{block}.attn.qkv", self.norm(f"{block}.norm1", x, 1e-6))
            x = x + self.affine(f"{block}.attn.proj", self.attend(*qkv.chunk(3, dim=-1)))
            hidden = gelu(self.affine(f"{block}.mlp.fc1", self.norm(f"{block}.norm2", x, 1e-6)))
            x = x + self.affine(f"{block}.mlp.fc2", hidden)
        return self.norm(f"{pre}.norm", x, 1e-6)

    def text_class_token(self, prompt: str, image_tokens: Tensor | None = None) -> Tensor:
        """Without padding: the words alone."""
        ids = [2, *(WORDS.index(word) for word in prompt.lower().split()), 3]
        w, pre = self.weights, "text_encoder.embeddings"
        x = w[f"{pre}.word_embeddings.weight"][ids]
        x = x + w[f"{pre}.position_embeddings.weight"][: len(ids)]
        x = self.norm(f"{pre}.LayerNorm", x, 1e-12)
        for i in range(LAYERS):
            layer = f"text_encoder.encoder.layer.{i}"
            x = self.attention(f"{layer}.attention", x, x)
            if image_tokens is not None:
                x = self.attention(f"{layer}.crossattention", x, image_tokens)
            hidden = gelu(self.affine(f"{layer}.intermediate.dense", x))
            hidden = self.affine(f"{layer}.output.dense", hidden)
            x = self.norm(f"{layer}.output.LayerNorm", hidden + x, 1e-12)
        return x[0]

    def attention(self, name: str, x: Tensor, seen: Tensor) -> Tensor:
        query = self.affine(f"{name}.self.query", x)
        key, value = (self.affine(f"{name}.self.{part}", seen) for part in ("key", "value"))
        mixed = self.affine(f"{name}.output.dense", self.attend(query, key, value))
        return self.norm(f"{name}.output.LayerNorm", mixed + x, 1e-12)

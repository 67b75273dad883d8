"""BLIP as its authors published it, on transformers' modules, and its contrastive score."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image, Resampling
from torch import Tensor
from torch.nn.functional import normalize

from adrpo.errors import AdrpoError, reading
from adrpo.rewards.conversion import load_exactly, read_checkpoint

HEAD_WIDTH = 64
"""Width of an attention head in every BLIP: 1024/16 and 768/12 (images), 768/12 (texts). The
number of heads leaves no trace in the tensors, and transformers' default for texts is 8."""

MAX_TOKENS = 35
"""Texts are padded and cut to this length by both scores that use BLIP."""

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)

TOKENIZER = "google-bert/bert-base-uncased"

PUBLISHED = (
    "BLIP's pretrained ViT-L checkpoint 'model_large.pth' (storage.googleapis.com/"
    "sfr-vision-language-research/BLIP/models/model_large.pth)"
)

PRETRAINING_ONLY = (
    "visual_encoder_m.",
    "vision_proj_m.",
    "text_encoder_m.",
    "text_proj_m.",
    "text_decoder.",
    "itm_head.",
    "image_queue",
    "text_queue",
    "queue_ptr",
    "temp",
)
"""Parts of the pretraining checkpoint that neither embeds an image nor a text: momentum copies,
the captioner, the matching head, the negatives and the temperature."""

ORIGINAL_NAMES = (
    ("vision.embeddings.class_embedding", "visual_encoder.cls_token"),
    ("vision.embeddings.position_embedding", "visual_encoder.pos_embed"),
    ("vision.embeddings.patch_embedding.", "visual_encoder.patch_embed.proj."),
    ("vision.encoder.layers.", "visual_encoder.blocks."),
    ("vision.post_layernorm.", "visual_encoder.norm."),
    (".layer_norm", ".norm"),
    (".self_attn.qkv.", ".attn.qkv."),
    (".self_attn.projection.", ".attn.proj."),
    ("text.", "text_encoder."),
)
"""Fragments of transformers' names -> BLIP's own. The text encoder's names are the same inside."""

POSITION_IDS = "text_encoder.embeddings.position_ids"
"""A counter that old checkpoints store and transformers makes anew."""


def original_name(name: str) -> str:
    """The published name of a tensor of :class:`BlipImageText`."""
    for ours, original in ORIGINAL_NAMES:
        if ours in name:
            name = name.replace(ours, original, 1)
    return name


def pixel_values(images: Sequence[Image], size: int) -> Tensor:
    """Images as BLIP, ImageReward and OpenAI's CLIP see them: [images, 3, size, size], float32.

    In RGB; the shorter side is resized to ``size`` (Pillow's bicubic, which averages over the
    pixels it leaves out), the longer one in proportion, rounded down; the center is cropped; then
    (value / 255 - mean) / std per channel. What lies beyond the central square is not seen.
    """
    rows = [np.asarray(_central_square(image.convert("RGB"), size)) for image in images]
    values = torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(channel).view(3, 1, 1) for channel in (PIXEL_MEAN, PIXEL_STD))
    return (values - mean) / std


def _central_square(image: Image, size: int) -> Image:
    short = min(image.size)
    width, height = (int(size * side / short) for side in image.size)
    # Half a pixel is rounded to the even number, as torchvision does, which both models use.
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.resize((width, height), Resampling.BICUBIC).crop(
        (left, top, left + size, top + size)
    )


class BlipImageText(torch.nn.Module):
    """BLIP's image encoder, its text encoder and the projections into their common space.

    Source: BLIP (arXiv 2201.12086). A vision transformer with layer_norm_eps 1e-6 (transformers'
    default, 1e-5, gives other numbers) and a BERT with cross-attention to the image's tokens,
    which attends in both directions. All sizes are read from the tensors.

    Args:
        tensors: by the names of BLIP's code: ``visual_encoder.*``, ``text_encoder.*``,
            ``vision_proj.*``, ``text_proj.*``; no other, none missing.
        tokenizer: a folder or Hub id of BERT's uncased tokenizer.
        source: the file, for error messages.

    Raises:
        AdrpoError: a tensor is missing, left over or misshapen, or there is no such tokenizer.
    """

    def __init__(self, tensors: Mapping[str, Tensor], tokenizer: str | Path, source: str) -> None:
        from transformers import BlipTextModel, BlipVisionModel

        super().__init__()
        tensors = {name: tensor for name, tensor in tensors.items() if name != POSITION_IDS}
        vision, text = vision_config(tensors, source), text_config(tensors, source)
        self.image_size = vision.image_size
        self.vision = BlipVisionModel(vision)
        self.text = BlipTextModel(text, add_pooling_layer=False)
        width = _shape(tensors, "vision_proj.weight", source)[0]
        self.vision_proj = torch.nn.Linear(vision.hidden_size, width)
        self.text_proj = torch.nn.Linear(text.hidden_size, width)
        load_exactly(self, tensors, published_name=original_name, source=source)
        self._tokenizer = _load_tokenizer(str(tokenizer), text.vocab_size)
        self.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        return self.vision_proj.weight.device

    def embed_images(self, images: Sequence[Image]) -> Tensor:
        """vision_proj of the image's class token, [images, projection], of length 1."""
        return normalize(self.vision_proj(self._image_tokens(images)[:, 0]), dim=-1)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """text_proj of the text's class token, read without an image, of length 1."""
        hidden = self.text(**self._tokenize(texts)).last_hidden_state
        return normalize(self.text_proj(hidden[:, 0]), dim=-1)

    def fuse(self, images: Sequence[Image], texts: Sequence[str]) -> Tensor:
        """The class token of text i, read with cross-attention to image i: [images, width]."""
        tokens = self._tokenize(texts)
        seen = self._image_tokens(images)
        return self.text(**tokens, encoder_hidden_states=seen).last_hidden_state[:, 0]

    def _image_tokens(self, images: Sequence[Image]) -> Tensor:
        pixels = pixel_values(images, self.image_size)
        return self.vision(pixels.to(self.device)).last_hidden_state

    def _tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        tokens = self._tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        ).to(self.device)
        return {name: tokens[name] for name in ("input_ids", "attention_mask")}


class BlipScore:
    """BLIP score: cosine of image and text in BLIP's contrastive space, in [-1, 1].

        blip_score = cos(vision_proj(image class token), text_proj(text class token))

    Matching pairs lie near 0.5. No prefix, no factor and no matching head; texts are cut to 35
    tokens. Source: ``BLIPScore`` of ImageReward (arXiv 2304.05977), on the *pretrained* ViT-L at
    224 pixels. The checkpoint fine-tuned for retrieval on COCO (``blip-itm-large-coco``, 384
    pixels) gives other numbers.

    Args:
        weights: ``model_large.pth`` from storage.googleapis.com/sfr-vision-language-research/
            BLIP/models/ (BSD-3-Clause), or its conversion to safetensors.
        tokenizer: a folder or Hub id of BERT's uncased tokenizer.
        device: where the model runs, in float32.
        batch_size: images or texts per forward pass; a memory knob.

    Raises:
        AdrpoError: the weights or the tokenizer can't be found or read, or are of another model.
    """

    def __init__(
        self,
        weights: str | Path,
        tokenizer: str | Path = TOKENIZER,
        device: str | torch.device = "cpu",
        batch_size: int = 64,
    ) -> None:
        tensors = read_checkpoint(weights, published=PUBLISHED, skip=_is_for_pretraining)
        self._blip = BlipImageText(tensors, tokenizer, str(weights)).to(device)
        self.batch_size = batch_size

    @torch.inference_mode()
    def __call__(self, prompts: list[str], images: list[Image], **columns: Any) -> list[float]:
        """cos(image_i, prompt_i) for each i."""
        # Samples of one prompt share its text: embed each once.
        rows = {prompt: row for row, prompt in enumerate(dict.fromkeys(prompts))}
        unique = list(rows)
        starts = range(0, len(unique), self.batch_size)
        texts = torch.cat([self._blip.embed_texts(unique[i : i + self.batch_size]) for i in starts])
        scores: list[float] = []
        for start in range(0, len(images), self.batch_size):
            batch = slice(start, start + self.batch_size)
            own = texts[[rows[prompt] for prompt in prompts[batch]]]
            scores += (self._blip.embed_images(images[batch]) * own).sum(dim=1).tolist()
        return scores


def _is_for_pretraining(name: str) -> bool:
    return name.startswith(PRETRAINING_ONLY)


def vision_config(tensors: Mapping[str, Tensor], source: str) -> Any:
    """transformers' configuration of the image encoder that ``tensors`` belong to."""
    from transformers import BlipVisionConfig

    width, _, patch, _ = _shape(tensors, "visual_encoder.patch_embed.proj.weight", source)
    patches = _shape(tensors, "visual_encoder.pos_embed", source)[1] - 1
    return BlipVisionConfig(
        hidden_size=width,
        intermediate_size=_shape(tensors, "visual_encoder.blocks.0.mlp.fc1.weight", source)[0],
        num_hidden_layers=_layers(tensors, r"visual_encoder\.blocks\.(\d+)\."),
        num_attention_heads=width // HEAD_WIDTH,
        image_size=patch * math.isqrt(patches),
        patch_size=patch,
        layer_norm_eps=1e-6,
    )


def text_config(tensors: Mapping[str, Tensor], source: str) -> Any:
    """transformers' configuration of the text encoder that ``tensors`` belong to."""
    from transformers import BlipTextConfig

    layer = "text_encoder.encoder.layer.0"
    words, width = _shape(tensors, "text_encoder.embeddings.word_embeddings.weight", source)
    positions = "text_encoder.embeddings.position_embeddings.weight"
    return BlipTextConfig(
        vocab_size=words,
        hidden_size=width,
        encoder_hidden_size=_shape(tensors, f"{layer}.crossattention.self.key.weight", source)[1],
        intermediate_size=_shape(tensors, f"{layer}.intermediate.dense.weight", source)[0],
        num_hidden_layers=_layers(tensors, r"text_encoder\.encoder\.layer\.(\d+)\."),
        num_attention_heads=width // HEAD_WIDTH,
        max_position_embeddings=_shape(tensors, positions, source)[0],
        layer_norm_eps=1e-12,
        # What makes cross-attention layers; attention stays bidirectional, which forward decides.
        is_decoder=True,
    )


def _shape(tensors: Mapping[str, Tensor], name: str, source: str) -> torch.Size:
    if name not in tensors:
        raise AdrpoError(
            f"expected a BLIP checkpoint with {name!r} in {source!r}, found none of that name: "
            "name the published file"
        )
    return tensors[name].shape


def _layers(tensors: Mapping[str, Tensor], pattern: str) -> int:
    return len({match[1] for name in tensors if (match := re.match(pattern, name))})


def _load_tokenizer(source: str, rows: int) -> Any:
    from transformers import BertTokenizer

    with reading(
        f"expected a folder or Hub id of BERT's tokenizer ({TOKENIZER!r}), received {source!r}",
        "download it again, or name another",
    ):
        tokenizer = BertTokenizer.from_pretrained(source)
    words = set(tokenizer.get_vocab())
    # Without its files a tokenizer still loads, empty, and every text would read the same.
    if words <= set(tokenizer.all_special_tokens) or len(words) > rows:
        raise AdrpoError(
            f"expected BERT's tokenizer with at most {rows} words in {source!r}, received one with "
            f"{len(words)}: name {TOKENIZER!r} or a folder that holds it"
        )
    return tokenizer

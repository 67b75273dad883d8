# diffusers' and transformers' hints are narrower than what these classes take.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""Trains a CLIP model on scenes: the reward, or the second opinion kept for evaluation.

``python -m adrpo.embedded.build reward-clip|evaluation-clip --output DIR``. The contrastive loss
of CLIP with hard negatives on both sides: an image against the captions of the batch and against
captions one attribute away from its own; a caption against the images of the batch, a spoilt
picture of its own scene, and a picture of a scene one attribute away. Pairs of the batch that
could be right by accident are masked out.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from adrpo.embedded.build.corruptions import corrupt, draw, wrong_scene
from adrpo.embedded.build.tokenizer import MAX_LENGTH, build_tokenizer
from adrpo.embedded.scenes import Scene, caption, hard_negatives, sample_scene, sample_split

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
BATCH = 48
LEARNING_RATE = 1e-3
WARMUP = 200
HARD_CAPTIONS = 5
MAX_LOGIT_SCALE = 30.0
"""Keeps cosines of right and wrong captions far apart: a score in points, not in hundredths."""


@dataclass(frozen=True, kw_only=True)
class ClipRecipe:
    """Size and data of one CLIP model."""

    vision_width: int
    vision_layers: int
    text_width: int
    text_layers: int
    held_out_too: bool
    pool: int
    seed: int


REWARD = ClipRecipe(
    vision_width=128,
    vision_layers=4,
    text_width=96,
    text_layers=3,
    held_out_too=False,
    pool=24_000,
    seed=11,
)
EVALUATION = ClipRecipe(
    vision_width=96,
    vision_layers=4,
    text_width=64,
    text_layers=3,
    held_out_too=True,
    pool=16_000,
    seed=22,
)


def new_clip(recipe: ClipRecipe, tokenizer: CLIPTokenizer) -> CLIPModel:
    vision = {
        "hidden_size": recipe.vision_width,
        "intermediate_size": 4 * recipe.vision_width,
        "num_hidden_layers": recipe.vision_layers,
        "num_attention_heads": recipe.vision_width // 32,
        "image_size": 64,
        "patch_size": 8,
        "projection_dim": 64,
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": recipe.text_width,
        "intermediate_size": 4 * recipe.text_width,
        "num_hidden_layers": recipe.text_layers,
        "num_attention_heads": recipe.text_width // 32,
        "max_position_embeddings": MAX_LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Scenes with three pictures each: right, one attribute away, spoilt. uint8 [n, 3, 64, 64]."""

    scenes: list[Scene]
    right: Tensor
    wrong: Tensor
    spoilt: Tensor


def draw_pool(recipe: ClipRecipe, rng: np.random.Generator) -> Pool:
    scenes = [
        sample_scene(rng) if recipe.held_out_too else sample_split(rng, held_out=False)
        for _ in range(recipe.pool)
    ]
    seeds = [int(seed) for seed in rng.integers(2**31, size=recipe.pool)]

    def stack(images: list[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()

    pairs = list(zip(scenes, seeds, strict=True))
    return Pool(
        scenes=scenes,
        right=stack([draw(scene, seed) for scene, seed in pairs]),
        wrong=stack([wrong_scene(scene, seed, rng) for scene, seed in pairs]),
        spoilt=stack([corrupt(scene, seed, rng) for scene, seed in pairs]),
    )


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 pictures as [-1, 1], a third of them slightly noised and a third slightly blurred,
    as an autoencoder leaves them."""
    pixels = images.float() / 127.5 - 1
    draws = torch.rand(len(pixels), generator=generator)
    soft = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    noise = 0.06 * torch.randn(pixels.shape, generator=generator)
    pixels = torch.where((draws < 0.33)[:, None, None, None], (pixels + 2 * soft) / 3, pixels)
    return torch.where((draws > 0.67)[:, None, None, None], pixels + noise, pixels).clamp(-1, 1)


def _content(scene: Scene) -> tuple[object, ...]:
    """What two scenes share if one caption might fit the other's picture."""
    return (*sorted((o.color, o.shape) for o in scene.objects), scene.count, scene.text)


def confusable(scenes: list[Scene]) -> Tensor:
    """[batch, batch] bool: different entries whose captions may fit each other's picture."""
    contents = [_content(scene) for scene in scenes]
    same = torch.tensor([[a == b for b in contents] for a in contents])
    return same & ~torch.eye(len(scenes), dtype=torch.bool)


def embed_texts(model: CLIPModel, tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    tokens = tokenizer(captions, padding="max_length", return_tensors="pt").input_ids
    pooled = model.text_model(input_ids=tokens).pooler_output
    return F.normalize(model.text_projection(pooled), dim=-1)


def embed_images(model: CLIPModel, pixels: Tensor) -> Tensor:
    pooled = model.vision_model(pixel_values=pixels).pooler_output
    return F.normalize(model.visual_projection(pooled), dim=-1)


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor, scenes: list[Scene]) -> Tensor:
    """``images`` [3 batch, d]: right, wrong, spoilt; ``texts`` [batch (1 + hard), d]."""
    batch = len(scenes)
    index = torch.arange(batch)
    masked = confusable(scenes)
    right, wrong, spoilt = images.split(batch)
    own, hard = texts[:batch], texts[batch:].view(batch, HARD_CAPTIONS, -1)
    to_text = (right @ own.T).masked_fill(masked, -2.0)
    to_hard = torch.einsum("bd,bhd->bh", right, hard)
    to_image = (own @ right.T).masked_fill(masked.T, -2.0)
    to_bad = torch.stack([(own * wrong).sum(-1), (own * spoilt).sum(-1)], dim=1)
    return (
        F.cross_entropy(scale * torch.cat([to_text, to_hard], 1), index)
        + F.cross_entropy(scale * torch.cat([to_image, to_bad], 1), index)
    ) / 2


@torch.inference_mode()
def retrieval(model: CLIPModel, tokenizer: CLIPTokenizer, seed: int) -> dict[str, float]:
    """On fresh held-out scenes: share of images whose own caption beats every caption one
    attribute away, and share of captions whose right picture beats a spoilt one."""
    rng = np.random.default_rng(seed)
    scenes = [sample_split(rng, held_out=True) for _ in range(200)]
    seeds = [int(s) for s in rng.integers(2**31, size=len(scenes))]
    good = np.stack([draw(scene, s) for scene, s in zip(scenes, seeds, strict=True)])
    bad = np.stack([corrupt(scene, s, rng) for scene, s in zip(scenes, seeds, strict=True)])
    pixels = torch.from_numpy(np.concatenate([good, bad])).permute(0, 3, 1, 2) / 127.5 - 1
    images = embed_images(model, pixels)
    own = embed_texts(model, tokenizer, [caption(scene) for scene in scenes])
    beats_captions = 0
    for image, text, scene in zip(images[:200], own, scenes, strict=True):
        others = embed_texts(model, tokenizer, [caption(s) for s in hard_negatives(scene)])
        beats_captions += bool((image @ text > (others @ image).max()).item())
    margin = ((images[:200] - images[200:]) * own).sum(-1)
    return {
        "exact_caption": beats_captions / 200,
        "beats_spoilt": (margin > 0).float().mean().item(),
        "score_right": 100 * (images[:200] * own).sum(-1).mean().item(),
        "score_spoilt": 100 * (images[200:] * own).sum(-1).mean().item(),
    }


def train(output: Path, recipe: ClipRecipe, *, steps: int) -> dict[str, float]:
    """Train for ``steps`` batches and save model, tokenizer and image processor."""
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    tokenizer = build_tokenizer(output)
    model = new_clip(recipe, tokenizer)
    pool = draw_pool(recipe, rng)
    print("pool drawn", flush=True)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.02
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, steps, pct_start=WARMUP / steps, final_div_factor=100
    )
    started, running = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        index = torch.randint(recipe.pool, (BATCH,), generator=generator)
        scenes = [pool.scenes[i] for i in index]
        pictures = torch.cat([part[index] for part in (pool.right, pool.wrong, pool.spoilt)])
        hard = [
            caption(negatives[i])
            for negatives in map(hard_negatives, scenes)
            for i in rng.integers(len(negatives), size=HARD_CAPTIONS)
        ]
        images = embed_images(model, augment(pictures, generator))
        texts = embed_texts(model, tokenizer, [caption(scene) for scene in scenes] + hard)
        scale = model.logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)
        loss = contrastive_loss(images, texts, scale, scenes)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        running += loss.item()
        if step % 50 == 0:
            seconds = time.monotonic() - started
            print(f"clip {step}/{steps} loss {running / 50:.4f} {seconds:.0f} s", flush=True)
            running = 0.0
        if step % 500 == 0 or step == steps:
            print(retrieval(model, tokenizer, recipe.seed), flush=True)
            model.save_pretrained(output)
    CLIPImageProcessorPil(
        size={"shortest_edge": 64},
        crop_size={"height": 64, "width": 64},
        image_mean=list(MEAN),
        image_std=list(STD),
    ).save_pretrained(output)
    seconds = round(time.monotonic() - started)
    return retrieval(model, tokenizer, recipe.seed) | {"steps": steps, "seconds": seconds}

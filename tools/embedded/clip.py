# diffusers' and transformers' hints are narrower than what these classes take.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""Trains a CLIP model on scenes: the reward, or the second opinion kept for evaluation.

``python -m tools.embedded reward-clip|evaluation-clip --work DIR``. The contrastive loss
of CLIP with hard negatives on both sides: an image against the captions of the batch and against
captions one attribute away from its own; a caption against the images of the batch, a spoilt
picture of its own scene, and a picture of a scene one attribute away. Pairs of the batch that
could be right by accident are masked out. The reward also learns from judged drawings of the base
(:mod:`tools.embedded.drawings`): of two drawings of a caption, the right one scores higher.
"""

import time
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from adrpo.embedded.scenes import Scene, caption, hard_negatives, sample_split
from tools.embedded.clip_data import augment, draw_pool
from tools.embedded.corruptions import corrupt, draw
from tools.embedded.drawings import Drawings, load_drawings
from tools.embedded.optimization import Descent, Schedule, optimizers
from tools.embedded.tokenizer import MAX_LENGTH, build_tokenizer

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
BATCH = 32
JUDGED_PROMPTS = 48
CHECKED_PROMPTS = 600
"""Judged prompts (of four drawings) in a batch, and kept out of training to check on."""

MUON_RATE = 1.5e-3
ADAM_RATE = 7e-4
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
    instance_weight: float
    """Weight of the self-supervised term, which keeps pictures of one caption apart."""
    start_share: float
    """Share of the weights gone on from in the result (WiSE-FT, Wortsman et al., arXiv
    2109.01903): a little of what was known before makes the new knowledge more general."""
    pool: int
    seed: int


REWARD = ClipRecipe(
    vision_width=128,
    vision_layers=4,
    text_width=96,
    text_layers=3,
    held_out_too=False,
    instance_weight=0.0,
    start_share=0.25,
    pool=40_000,
    seed=11,
)
EVALUATION = ClipRecipe(
    vision_width=96,
    vision_layers=4,
    text_width=64,
    text_layers=3,
    held_out_too=True,
    instance_weight=2.0,
    start_share=0.0,
    pool=40_000,
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
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))
    # The fused attention's backward pass in bfloat16 takes most of a step on a CPU.
    model.set_attn_implementation("eager")
    return model


def _content(scene: Scene) -> tuple[object, ...]:
    """Key that two scenes share if one's caption might fit the other's picture."""
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


def instance_loss(one: Tensor, two: Tensor, other: Tensor, scale: Tensor) -> Tensor:
    """SLIP's self-supervised term (arXiv 2112.12750): of the batch's pictures and of another
    drawing of the same scene, the second view of a picture is the nearest. All [batch, d]."""
    nearest = torch.cat([one @ two.T, (one * other).sum(-1, keepdim=True)], dim=1)
    return F.cross_entropy(scale * nearest, torch.arange(len(one)))


def judged_loss(images: Tensor, texts: Tensor, scale: Tensor, right: Tensor) -> Tensor:
    """Bradley-Terry: -log sigmoid(score of a right drawing - score of a wrong one), mean over the
    pairs of each caption. ``images`` [prompts, 4, d], ``texts`` [prompts, d], ``right`` bool."""
    scores = scale * torch.einsum("pkd,pd->pk", images, texts)
    pairs = right[:, :, None] & ~right[:, None, :]
    margins = scores[:, :, None] - scores[:, None, :]
    return -(F.logsigmoid(margins) * pairs).sum() / pairs.sum().clamp(min=1)


@torch.inference_mode()
def pair_accuracy(model: CLIPModel, tokenizer: CLIPTokenizer, drawings: Drawings) -> float:
    """Share of (right, wrong) pairs of drawings of one caption that the score puts in order."""
    count, each = drawings.right.shape
    images = embed_images(model, drawings.images.flatten(0, 1).float() / 127.5 - 1)
    texts = embed_texts(model, tokenizer, [caption(scene) for scene in drawings.scenes])
    scores = torch.einsum("pkd,pd->pk", images.view(count, each, -1), texts)
    pairs = drawings.right[:, :, None] & ~drawings.right[:, None, :]
    return (scores[:, :, None] > scores[:, None, :])[pairs].float().mean().item()


@torch.inference_mode()
def retrieval(model: CLIPModel, tokenizer: CLIPTokenizer, seed: int) -> dict[str, float]:
    """On fresh held-out scenes: share of images whose own caption beats every caption one
    attribute away, and share of captions whose right picture beats a spoilt one."""
    rng = np.random.default_rng(seed)
    scenes = [sample_split(rng, split="held_out") for _ in range(200)]
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


class Batches:
    """The random batches of a training: drawn scenes, and judged drawings where there are any."""

    def __init__(self, recipe: ClipRecipe, drawings: Drawings | None) -> None:
        self.rng = np.random.default_rng(recipe.seed)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.pool = draw_pool(recipe.pool, self.rng, held_out_too=recipe.held_out_too)
        self.drawings = drawings
        self.instance_weight = recipe.instance_weight

    def loss(self, model: CLIPModel, tokenizer: CLIPTokenizer) -> Tensor:
        index = torch.randint(len(self.pool.scenes), (BATCH,), generator=self.generator)
        scenes = [self.pool.scenes[i] for i in index]
        pictures = {
            "right": self.pool.right[index],
            "wrong": self.pool.wrong[index],
            "spoilt": self.pool.spoilt[index],
        }
        captions = {
            "own": [caption(scene) for scene in scenes],
            "hard": [
                caption(negatives[i])
                for negatives in map(hard_negatives, scenes)
                for i in self.rng.integers(len(negatives), size=HARD_CAPTIONS)
            ],
        }
        verdicts = torch.empty(0, 0, dtype=torch.bool)
        if self.drawings is not None:
            choices = len(self.drawings.scenes)
            judged = torch.randint(choices, (JUDGED_PROMPTS,), generator=self.generator)
            pictures["judged"] = self.drawings.images[judged].flatten(0, 1)
            captions["judged"] = [caption(self.drawings.scenes[i]) for i in judged]
            verdicts = self.drawings.right[judged]
        if self.instance_weight:
            pictures["again"] = self.pool.right[index]
            pictures["other"] = self.pool.other[index]
        with torch.autocast("cpu", torch.bfloat16):
            shown = augment(torch.cat(list(pictures.values())), self.generator)
            images = _parts(pictures, embed_images(model, shown).float())
            told = [text for texts in captions.values() for text in texts]
            texts = _parts(captions, embed_texts(model, tokenizer, told).float())
        scale = model.logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)
        loss = contrastive_loss(
            torch.cat([images["right"], images["wrong"], images["spoilt"]]),
            torch.cat([texts["own"], texts["hard"]]),
            scale,
            scenes,
        )
        if self.instance_weight:
            views = instance_loss(images["right"], images["again"], images["other"], scale)
            loss = loss + self.instance_weight * views
        if self.drawings is not None:
            drawn = images["judged"].view(*verdicts.shape, -1)
            loss = loss + judged_loss(drawn, texts["judged"], scale, verdicts)
        return loss


def _parts(named: Mapping[str, Sized], embedded: Tensor) -> dict[str, Tensor]:
    """The rows of ``embedded``, by the names of what was embedded together."""
    rows = embedded.split([len(part) for part in named.values()])
    return dict(zip(named, rows, strict=True))


@torch.no_grad()
def _blend(model: CLIPModel, earlier: CLIPModel, share: float) -> None:
    """weights <- (1 - share) weights + share earlier weights."""
    for value, before in zip(model.parameters(), earlier.parameters(), strict=True):
        value.lerp_(before, share)


def train(
    output: Path,
    recipe: ClipRecipe,
    *,
    steps: int,
    start: Path | None = None,
    drawings_file: Path | None = None,
) -> dict[str, float]:
    """Train for ``steps`` batches and save model, tokenizer and image processor.

    ``start`` is a CLIP model of the recipe's size to go on from.
    """
    torch.manual_seed(recipe.seed)
    tokenizer = build_tokenizer(output)
    model = new_clip(recipe, tokenizer)
    earlier = None if start is None else CLIPModel.from_pretrained(start, dtype=torch.float32)
    if earlier is not None:
        model.load_state_dict(earlier.state_dict())
    drawings = load_drawings(drawings_file) if drawings_file else None
    checked = drawings.part(slice(None, CHECKED_PROMPTS)) if drawings else None
    batches = Batches(recipe, drawings.part(slice(CHECKED_PROMPTS, None)) if drawings else None)
    optimizing = optimizers(model, muon_rate=MUON_RATE, adam_rate=ADAM_RATE)
    schedule = Schedule(optimizing, steps=steps, warmup=WARMUP)

    def quality() -> dict[str, float]:
        measured = retrieval(model, tokenizer, recipe.seed)
        if checked is not None:
            measured["pair_accuracy"] = pair_accuracy(model, tokenizer, checked)
        return measured

    started, descent = time.monotonic(), Descent("clip", model, schedule)
    for step in range(1, steps + 1):
        descent.step(step, batches.loss(model, tokenizer))
        if step % 500 == 0 or step == steps:
            print(quality(), flush=True)
            model.save_pretrained(output)
    if earlier is not None:
        _blend(model, earlier, recipe.start_share)
        model.save_pretrained(output)
    CLIPImageProcessorPil(
        size={"shortest_edge": 64},
        crop_size={"height": 64, "width": 64},
        image_mean=list(MEAN),
        image_std=list(STD),
    ).save_pretrained(output)
    return quality() | {"steps": steps, "seconds": round(time.monotonic() - started)}

"""The quality of the embedded models, as their model cards quote it.

``PYTHONPATH=. python benchmarks/embedded_quality.py [--output FOLDER]``

- the base: gold accuracy on held-out prompts at the evaluation sampler, by category;
- each CLIP: does an image's own caption beat every caption one attribute away, does a right
  picture beat a spoilt one, and, on images that the base draws, the rank correlation of its score
  with the gold scorer within a prompt (Spearman): with the verdict, as a mean over prompts with
  right and wrong images, and with the share of the caption's requirements that an image meets, as
  a mean over prompts with different shares;
- the reward as a probability: location and scale of the logistic function that predicts the gold
  verdict from the score (Platt scaling), fitted to images for prompts of the *training* split,
  drawn as training draws them; the recipes' ``reward.logistic`` is this;
- the gold scorer: right on the renderer's images, and accepted with a caption one attribute away.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from adrpo.config import FlowModelSection, SamplingSection
from adrpo.embedded.gold import gold_scores, satisfied_share, satisfies
from adrpo.embedded.rendering import render
from adrpo.embedded.scenes import (
    CATEGORIES,
    Split,
    caption,
    hard_negatives,
    prompt_set,
    sample_scene,
    sample_split,
)
from adrpo.evaluation import mean_over_seeds
from adrpo.flow.models.loading import load_policy
from adrpo.flow.path.draws import initial_noise
from adrpo.rewards.image import ClipScore
from adrpo.runs.environment import environment_record
from tools.embedded.corruptions import corrupt, draw

CLIPS = {"reward_clip": "embedded", "evaluation_clip": "embedded-evaluation"}


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation with tied ranks averaged."""

    def ranks(values: np.ndarray) -> np.ndarray:
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        return ((ends - counts + 1 + ends) / 2)[inverse]

    return float(np.corrcoef(ranks(x), ranks(y))[0, 1])


def perfect(verdicts: np.ndarray) -> float:
    """Spearman's correlation of right and wrong with a score without ties that ranks every right
    image first: below 1, since verdicts are tied among themselves."""
    return spearman(np.argsort(np.argsort(verdicts, kind="stable")), verdicts)


def pairs_in_order(scores: np.ndarray, verdicts: np.ndarray) -> float:
    """Share of pairs of a right and a wrong image whose scores are in that order."""
    return float((scores[verdicts == 1][:, None] > scores[verdicts == 0][None, :]).mean())


def generate(
    prompts: int,
    per_prompt: int,
    guidance_scale: float = 1.0,
    *,
    split: Split = "held_out",
    steps: int = 20,
) -> tuple[list[Any], np.ndarray]:
    """Images of the base, prompt after prompt, and their gold scores [prompts, per_prompt]."""
    scenes = prompt_set(prompts, split=split, seed=99)
    texts = [caption(scene) for scene in scenes for _ in range(per_prompt)]
    policy = load_policy(FlowModelSection())
    x_0 = initial_noise(len(texts), policy.latent_shape, 99, "quality")
    sampling = SamplingSection(steps=steps, guidance_scale=guidance_scale)
    images: list[Any] = []
    for rows in torch.arange(len(texts)).split(64):
        conditioning = policy.encode([texts[i] for i in rows])
        images += policy.decode(policy.sample(x_0[rows], conditioning, sampling))
    return images, np.asarray(gold_scores(texts, images)).reshape(prompts, per_prompt)


def base_quality(prompts: int, per_prompt: int) -> tuple[dict[str, Any], list[Any], np.ndarray]:
    categories = [scene.category for scene in prompt_set(prompts, split="held_out", seed=99)]
    images, gold = generate(prompts, per_prompt)
    interval = mean_over_seeds(gold[None], categories)
    _, guided = generate(prompts, 2, guidance_scale=3.0)
    result: dict[str, Any] = {
        "images": gold.size,
        "gold_accuracy": interval.mean,
        "gold_accuracy_low": interval.low,
        "gold_accuracy_high": interval.high,
        "gold_accuracy_guidance_3": float(guided.mean()),
    }
    for category in CATEGORIES:
        rows = [index for index, name in enumerate(categories) if name == category]
        result[f"gold_accuracy_{category}"] = float(gold[rows].mean())
    return result, images, gold


def met_shares(images: list[Any], shape: tuple[int, ...]) -> np.ndarray:
    """Shares of the requirements that ``generate``'s images meet, [prompts, per_prompt]."""
    scenes = prompt_set(shape[0], split="held_out", seed=99)
    wanted = [scene for scene in scenes for _ in range(shape[1])]
    pairs = zip(images, wanted, strict=True)
    return np.asarray([satisfied_share(image, scene) for image, scene in pairs]).reshape(shape)


def clip_quality(
    model: str, images: list[Any], gold: np.ndarray, shares: np.ndarray
) -> dict[str, Any]:
    clip = ClipScore(model)
    rng = np.random.default_rng(3)
    scenes = [sample_split(rng, split="held_out") for _ in range(300)]
    seeds = [int(seed) for seed in rng.integers(2**31, size=len(scenes))]
    right = [Image.fromarray(draw(s, n)) for s, n in zip(scenes, seeds, strict=True)]
    spoilt = [Image.fromarray(corrupt(s, n, rng)) for s, n in zip(scenes, seeds, strict=True)]
    texts = [caption(scene) for scene in scenes]
    beats = []
    for image, scene in zip(clip.embed_images(right), scenes, strict=True):
        scores = clip.embed_texts([caption(scene), *map(caption, hard_negatives(scene))]) @ image
        beats.append(float(scores[0] > scores[1:].max()))
    margin = np.asarray(clip(texts, right)) - np.asarray(clip(texts, spoilt))  # type: ignore[operator]
    prompts, per_prompt = gold.shape
    captions = [caption(scene) for scene in prompt_set(prompts, split="held_out", seed=99)]
    scores = np.asarray(clip([c for c in captions for _ in range(per_prompt)], images))
    by_prompt = scores.reshape(gold.shape)
    rows = [
        (row, verdicts)
        for row, verdicts in zip(by_prompt, gold, strict=True)
        if 0 < verdicts.mean() < 1
    ]
    graded = [
        (row, met) for row, met in zip(by_prompt, shares, strict=True) if met.min() < met.max()
    ]
    return {
        "exact_caption": float(np.mean(beats)),
        "beats_spoilt": float((margin > 0).mean()),
        "rank_correlation_with_gold_within_prompt": float(np.mean([spearman(*r) for r in rows])),
        "rank_correlation_of_a_perfect_score": float(np.mean([perfect(g) for _, g in rows])),
        "rank_correlation_with_requirements_met": float(np.mean([spearman(*r) for r in graded])),
        "prompts_with_different_shares": len(graded),
        "pairs_in_order": float(np.mean([pairs_in_order(*r) for r in rows])),
        "prompts_with_right_and_wrong_images": len(rows),
        "score_of_right_images": float(scores[gold.ravel() == 1].mean()),
        "score_of_wrong_images": float(scores[gold.ravel() == 0].mean()),
    }


def fit_logistic(scores: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Location and scale of P(right) = sigmoid((score - location) / scale), by maximum likelihood
    (Newton's method on standardised scores)."""
    center, spread = scores.mean(), scores.std()
    rows = np.stack([np.ones_like(scores), (scores - center) / spread], axis=1)
    weights = np.zeros(2)
    for _ in range(50):
        likely = 1 / (1 + np.exp(-rows @ weights))
        curvature = (rows * (likely * (1 - likely))[:, None]).T @ rows
        weights = weights + np.linalg.solve(curvature, rows.T @ (right - likely))
    scale = spread / weights[1]
    return float(center - weights[0] * scale), float(scale)


def calibration(prompts: int, per_prompt: int) -> dict[str, Any]:
    """The reward's logistic function on the training split, and what it was fitted to."""
    images, gold = generate(prompts, per_prompt, split="train", steps=10)
    scenes = prompt_set(prompts, split="train", seed=99)
    texts = [caption(scene) for scene in scenes for _ in range(per_prompt)]
    scores = np.asarray(ClipScore("embedded")(texts, images), dtype=np.float64)
    location, scale = fit_logistic(scores, gold.ravel())
    return {
        "location": location,
        "scale": scale,
        "images": gold.size,
        "gold_accuracy": float(gold.mean()),
        "score_of_right_images": float(scores[gold.ravel() == 1].mean()),
        "score_of_wrong_images": float(scores[gold.ravel() == 0].mean()),
    }


def gold_quality(count: int) -> dict[str, float]:
    rng = np.random.default_rng(8)
    right, accepted = [], []
    for index in range(count):
        scene = sample_scene(rng, CATEGORIES[index % len(CATEGORIES)])
        image = render(scene, rng)
        right.append(satisfies(image, scene))
        negatives = hard_negatives(scene)
        accepted.append(satisfies(image, negatives[rng.integers(len(negatives))]))
    return {"right": float(np.mean(right)), "accepted_one_attribute_away": float(np.mean(accepted))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=120)
    parser.add_argument("--per-prompt", type=int, default=16)
    parser.add_argument("--output", type=Path, default=None, help="folder for summary.json")
    arguments = parser.parse_args()
    base, images, gold = base_quality(arguments.prompts, arguments.per_prompt)
    result: dict[str, Any] = {"pipeline": base, "gold": gold_quality(3000)}
    shares = met_shares(images, gold.shape)
    result |= {name: clip_quality(model, images, gold, shares) for name, model in CLIPS.items()}
    result["reward_logistic"] = calibration(arguments.prompts, arguments.per_prompt)
    result["command"] = "python benchmarks/embedded_quality.py"
    result["environment"] = environment_record()
    text = json.dumps(result, indent=1) + "\n"
    print(text)
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "summary.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

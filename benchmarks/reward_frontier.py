"""The best that a reward allows: gold accuracy against diversity, without any training.

``python benchmarks/reward_frontier.py [--output benchmarks/results/reward_frontier]``

The policy that the objective aims at is the base's distribution tilted by the advantage,
p(x) exp(lambda A(x)). Here the tilt is applied exactly, to images that the base has drawn: each of
a prompt's K images gets the weight w_i = exp(lambda A_i) / sum_j exp(lambda A_j), with A the
advantage of flow/adrpo (deviations within a prompt in units of their common standard deviation,
clipped to [-2, 2]). Then

    gold accuracy = sum_i w_i gold_i        diversity = sum_{i != j} w_i w_j d_ij / sum w_i w_j

mean over prompts, with d the distance of ``clip_diversity`` (second CLIP). As lambda grows both
move; the table tells the diversity kept at equal gains of gold accuracy, for the CLIP score, for
the same score as a probability (``reward.logistic`` of flow/adrpo), and for the gold scorer. 95 %
intervals by resampling prompts, whatever their category. A gain near the largest is out of reach in
some resamples: the interval is over the others, and the table says how many they are. With K images
a strong tilt rests on few of them, so such gains are estimated badly, too.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comparison_tables import interval
from embedded_quality import generate
from numpy.typing import NDArray

from adrpo.config import load_flow_config
from adrpo.embedded.scenes import caption, prompt_set
from adrpo.rewards import Logistic
from adrpo.rewards.image import ClipScore
from adrpo.runs.environment import environment_record

Array = NDArray[np.float64]

STRENGTHS = np.array([0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12])
GAINS = (0.05, 0.10, 0.15)
CLIP = 2.0
RESAMPLES = 1000


def advantages(rewards: Array) -> Array:
    """A [prompts, K] as flow/adrpo scales and clips it."""
    deviations = rewards - rewards.mean(1, keepdims=True)
    return np.clip(deviations / deviations.std(), -CLIP, CLIP)


def tilted(advantage: Array, gold: Array, distance: Array) -> tuple[Array, Array]:
    """Gold accuracy and diversity of each prompt, [strengths, prompts] each."""
    others = ~np.eye(gold.shape[1], dtype=bool)
    accuracies, diversities = [], []
    for strength in STRENGTHS:
        weights = np.exp(strength * advantage)
        weights /= weights.sum(1, keepdims=True)
        pairs = weights[:, :, None] * weights[:, None, :] * others
        accuracies.append((weights * gold).sum(1))
        diversities.append((pairs * distance).sum((1, 2)) / pairs.sum((1, 2)))
    return np.array(accuracies), np.array(diversities)


def kept_at(accuracies: Array, diversities: Array) -> Array:
    """Share of diversity kept at each of GAINS; NaN where the gain is out of reach."""
    gain = accuracies.mean(1) - accuracies[0].mean()
    kept = diversities.mean(1) / diversities[0].mean()
    # From lambda = 0 up to the largest gain; beyond it, a proxy's gold accuracy may fall again.
    rising = slice(0, int(gain.argmax()) + 1)
    return np.interp(GAINS, gain[rising], kept[rising], right=np.nan)


def frontier(rewards: Array, gold: Array, distance: Array) -> dict[str, Any]:
    accuracies, diversities = tilted(advantages(rewards), gold, distance)
    rng = np.random.default_rng(0)
    draws = rng.integers(len(gold), size=(RESAMPLES, len(gold)))
    resampled = np.array([kept_at(accuracies[:, rows], diversities[:, rows]) for rows in draws])
    low, high = np.nanquantile(resampled, (0.025, 0.975), axis=0)
    reached = np.isfinite(resampled).mean(axis=0)
    kept = kept_at(accuracies, diversities)
    return {
        "gain": (accuracies.mean(1) - accuracies[0].mean()).tolist(),
        "kept": (diversities.mean(1) / diversities[0].mean()).tolist(),
        "kept_at": {
            f"{gain:+.2f}": {
                "mean": float(k),
                "low": float(a),
                "high": float(b),
                "reached": float(r),
            }
            for gain, k, a, b, r in zip(GAINS, kept, low, high, reached, strict=True)
        },
    }


def distances(images: list[Any], prompts: int) -> Array:
    """100 (1 - cos) between the images of each prompt, [prompts, K, K]."""
    embeds = torch.nn.functional.normalize(
        ClipScore("embedded-evaluation").embed_images(images), dim=-1
    )
    groups = embeds.double().reshape(prompts, -1, embeds.shape[-1])
    return 100 * (1 - groups @ groups.transpose(1, 2)).cpu().numpy()


def table(frontiers: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| reward | " + " | ".join(f"diversity kept at {gain:+.2f}" for gain in GAINS) + " |",
        "|---|" + "---|" * len(GAINS),
    ]
    for name, result in frontiers.items():
        cells = [cell(estimate) for estimate in result["kept_at"].values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(estimate: dict[str, float]) -> str:
    reached = estimate["reached"]
    of = "" if reached == 1 else f" (gain reached in {100 * reached:.0f} % of the resamples)"
    return f"{interval(estimate, 2)}{of}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=120)
    parser.add_argument("--per-prompt", type=int, default=16)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/reward_frontier"))
    arguments = parser.parse_args()
    images, gold = generate(arguments.prompts, arguments.per_prompt)
    distance = distances(images, arguments.prompts)
    captions = [
        caption(scene) for scene in prompt_set(arguments.prompts, split="held_out", seed=99)
    ]
    texts = [text for text in captions for _ in range(arguments.per_prompt)]
    scores = np.asarray(ClipScore("embedded")(texts, images), dtype=np.float64)
    settings = load_flow_config("flow/adrpo").reward[0].logistic
    assert settings is not None, "flow/adrpo bounds its reward"
    likely = Logistic(settings.location, settings.scale)(torch.from_numpy(scores)).numpy()
    frontiers = {
        "CLIP score": frontier(scores.reshape(gold.shape), gold, distance),
        "CLIP score as a probability (the recipes')": frontier(
            likely.reshape(gold.shape), gold, distance
        ),
        "gold scorer": frontier(gold, gold, distance),
    }
    record = {
        "command": "python benchmarks/reward_frontier.py",
        "images": gold.size,
        "strengths": STRENGTHS.tolist(),
        "rewards": frontiers,
        "environment": environment_record(),
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "summary.json").write_text(json.dumps(record, indent=1) + "\n")
    (arguments.output / "table.md").write_text(table(frontiers), encoding="utf-8")
    print(table(frontiers))


if __name__ == "__main__":
    main()

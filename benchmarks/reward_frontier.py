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
the same score as a probability (``reward.logistic`` of flow/adrpo), and for the gold scorer. The
intervals are of the one form (:mod:`adrpo.evaluation.intervals`), over prompts within their
categories, of the linearised share. With K images a strong tilt rests on few of them, so gains near
the largest are estimated badly.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comparison_tables import interval
from embedded_quality import generate
from numpy.typing import NDArray

from adrpo.config import load_flow_config
from adrpo.embedded.scenes import caption, prompt_set
from adrpo.evaluation import mean_over_seeds
from adrpo.rewards import Logistic
from adrpo.rewards.image import ClipScore
from adrpo.runs.environment import environment_record

Array = NDArray[np.float64]

STRENGTHS = np.array([0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12])
GAINS = (0.05, 0.10, 0.15)
CLIP = 2.0


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


def kept_at(accuracies: Array, diversities: Array, gain: float) -> Array | None:
    """Linearised values [prompts] whose mean is the share of diversity kept at ``gain``; None where
    it is out of reach.

    Between two strengths the share k is linear in the gain g, both of which are means over prompts
    or a ratio of two: k + (1 - w) psi_t + w psi_t+1 - slope ((1 - w) gamma_t + w gamma_t+1), with
    psi = (d_t - k_t d_0) / mean(d_0) and gamma = a_t - a_0 - g_t of each prompt.
    """
    rises = accuracies - accuracies[0]
    gains = rises.mean(1)
    kept = diversities.mean(1) / diversities[0].mean()
    # From lambda = 0 up to the largest gain; beyond it, a proxy's gold accuracy may fall again.
    reached = np.flatnonzero(gains[: int(gains.argmax()) + 1] >= gain)
    if not len(reached):
        return None
    after = int(reached[0])
    before = after - 1
    stretch = gains[after] - gains[before]
    slope = (kept[after] - kept[before]) / stretch
    share = (gain - gains[before]) / stretch
    values = np.zeros(accuracies.shape[1])
    for place, weight in ((before, 1 - share), (after, share)):
        ratio = (diversities[place] - kept[place] * diversities[0]) / diversities[0].mean()
        values += weight * (kept[place] + ratio - slope * (rises[place] - gains[place]))
    return values


def frontier(
    rewards: Array, gold: Array, distance: Array, categories: Sequence[str]
) -> dict[str, Any]:
    accuracies, diversities = tilted(advantages(rewards), gold, distance)
    found: dict[str, Any] = {
        "gain": (accuracies.mean(1) - accuracies[0].mean()).tolist(),
        "kept": (diversities.mean(1) / diversities[0].mean()).tolist(),
        "kept_at": {},
    }
    for gain in GAINS:
        values = kept_at(accuracies, diversities, gain)
        at = None if values is None else mean_over_seeds(values[None], categories)
        found["kept_at"][f"{gain:+.2f}"] = None if at is None else at.to_json()
    return found


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


def cell(estimate: dict[str, float] | None) -> str:
    return "out of reach" if estimate is None else interval(estimate, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=120)
    parser.add_argument("--per-prompt", type=int, default=16)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/reward_frontier"))
    arguments = parser.parse_args()
    images, gold = generate(arguments.prompts, arguments.per_prompt)
    distance = distances(images, arguments.prompts)
    scenes = prompt_set(arguments.prompts, split="held_out", seed=99)
    captions = [caption(scene) for scene in scenes]
    categories = [scene.category for scene in scenes]
    texts = [text for text in captions for _ in range(arguments.per_prompt)]
    scores = np.asarray(ClipScore("embedded")(texts, images), dtype=np.float64)
    settings = load_flow_config("flow/adrpo").reward[0].logistic
    assert settings is not None, "flow/adrpo bounds its reward"
    likely = Logistic(settings.location, settings.scale)(torch.from_numpy(scores)).numpy()
    frontiers = {
        "CLIP score": frontier(scores.reshape(gold.shape), gold, distance, categories),
        "CLIP score as a probability (the recipes')": frontier(
            likely.reshape(gold.shape), gold, distance, categories
        ),
        "gold scorer": frontier(gold, gold, distance, categories),
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

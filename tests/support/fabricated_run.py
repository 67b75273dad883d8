"""Run folders made up for tests of the report: plain files in the layout of a run, no training."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from adrpo.embedded.rendering import render
from adrpo.embedded.scenes import CATEGORIES, caption, prompt_set
from adrpo.evaluation import Estimate, mean_over_seeds, paired_difference

HOSTILE = """a <script>document.title = 'broken'</script> "square" & 'circle'"""
"""A prompt that must arrive in the page as text."""

CONFIG = """\
domain: flow
description: ADRPO with the embedded models, sized for a laptop
source: 'arXiv 2510.18053, eq. 6, Algorithm 1; sizes are our choice'
model: {pretrained: embedded, dtype: float32, device: auto}
reward:
- {name: clip_score, weight: 1.0, options: {model: embedded}}
algorithm:
  beta_0: 1.0
  advantage_clip: [-1.0, 1.0]
  advantage_scale: none
sampling: {steps: 10, solver: euler, guidance_scale: 1.0}
training:
  steps: 100
  prompts_per_step: 8
  samples_per_prompt: 8
  learning_rate: 0.001
  seed: 0
evaluation: {every: 25, samples_per_prompt: 4, strip_prompts: 6}
"""

ENVIRONMENT = {
    "python": "3.11.2",
    "platform": "Linux-6.1.0-x86_64-with-glibc2.36",
    "cpu": "AMD EPYC 9654 96-Core Processor",
    "cores": 4,
    "threads": 4,
    "gpu": None,
    "versions": {"adrpo": "0.1.0", "torch": "2.13.0", "diffusers": "0.42.1", "peft": "0.21.2"},
    "git": {"commit": "0f3c2b9d5e1a4f6b8c7d0e9f1a2b3c4d5e6f7a8b", "dirty": False},
}


def fabricate(
    path: Path,
    *,
    steps: int = 100,
    evaluated: tuple[int, ...] = (0, 25, 50, 75, 100),
    pictured: int = 3,
    prompts: int = 102,
    samples: int = 4,
) -> Path:
    """Write a run of ``steps`` steps to ``path``; its first held-out prompt is HOSTILE."""
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(CONFIG, encoding="utf-8")
    (path / "environment.json").write_text(json.dumps(ENVIRONMENT), encoding="utf-8")
    rng = np.random.default_rng(0)
    _write_lines(path / "metrics.jsonl", [_metrics_row(step, rng) for step in range(1, steps + 1)])
    if evaluated:
        rows = _evaluation_rows(evaluated, prompts, samples, rng)
        _write_lines(path / "evaluations.jsonl", rows)
    if pictured:
        _write_pictures(path / "samples", evaluated, pictured, samples)
    return path


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _metrics_row(step: int, rng: np.random.Generator) -> dict[str, Any]:
    grown = 1 - np.exp(-step / 40)
    beta_mean = float(rng.normal(1, 0.04))
    return {
        "step": step,
        "wall_seconds": 5.1 * step,
        "reward_mean": float(24 + 2.5 * grown + rng.normal(0, 0.5)),
        "reward_std": float(2.6 - 0.5 * grown + rng.normal(0, 0.15)),
        "reward_clip_score_mean": float(24 + 2.5 * grown),
        "advantage_clipped_fraction": float(np.clip(0.52 + rng.normal(0, 0.05), 0, 1)),
        "beta_mean": beta_mean,
        "beta_min": max(0.0, beta_mean - 1 + float(rng.uniform(0, 0.05))),
        "beta_max": min(2.0, beta_mean + 1 - float(rng.uniform(0, 0.05))),
        "divergence": float(0.018 * grown * rng.uniform(0.85, 1.15)),
        "loss": float(0.2 - 0.05 * grown + rng.normal(0, 0.03)),
        "grad_norm": float(0.6 * np.exp(-step / 60) + rng.uniform(0.1, 0.2)),
        "learning_rate": 1e-3,
        "samples": 64,
        "samples_excluded": 0,
        "samples_per_second": float(rng.uniform(12, 13)),
        "model_calls": 704,
        "reference_rows": 64,
        "seconds_sampling": 3.1,
        "seconds_scoring": 0.35,
        "seconds_policy": 1.2,
        "seconds_reference": 0.38,
        "seconds_other": 0.02,
    }


def _evaluation_rows(
    steps: tuple[int, ...], prompts: int, samples: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Rows whose intervals are real intervals of made-up values [prompts, samples]."""
    categories = [CATEGORIES[index % len(CATEGORIES)] for index in range(prompts)]
    per_category = {name: np.array([c == name for c in categories]) for name in CATEGORIES}
    rows = []
    for split in ("unseen", "seen"):
        ease = rng.beta(2, 2.5, size=(prompts, 1))
        luck = rng.uniform(size=(prompts, samples))
        score = rng.normal(24, 2, size=(prompts, 1)) + rng.normal(0, 1.5, size=luck.shape)
        spread = rng.normal(5.1, 1.0, size=(prompts, 1))
        base: dict[str, np.ndarray] = {}
        for step in steps:
            grown = 1 - np.exp(-step / 40)
            values = {
                "gold_accuracy": (luck < ease + 0.09 * grown).astype(float),
                "clip_score": score + grown * rng.normal(2.1, 0.5, luck.shape),
                "clip_score_evaluation": score - 1 + rng.normal(0.002 * step, 0.6, luck.shape),
                "clip_diversity": spread * (1 - 0.08 * grown),
            }
            row: dict[str, Any] = {"step": step, "split": split, "prompts": prompts}
            row["samples"] = prompts * samples
            groups = {key: (table, np.full(prompts, True)) for key, table in values.items()}
            for name, chosen in per_category.items():
                groups[f"gold_accuracy_{name}"] = (values["gold_accuracy"], chosen)
            for key, (table, chosen) in groups.items():
                kept = [c for c, k in zip(categories, chosen, strict=True) if k]
                row |= _columns(key, mean_over_seeds(table[chosen][None], kept))
                if step == 0:
                    base[key] = table[chosen]
                    continue
                change = paired_difference(table[chosen][None], base[key][None], kept)
                row |= _columns(f"{key}_change", change)
            rows.append(row)
    return sorted(rows, key=lambda row: row["step"])


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _write_pictures(folder: Path, steps: tuple[int, ...], pictured: int, samples: int) -> None:
    scenes = prompt_set(pictured, split="held_out", seed=0)
    held_out = [{"prompt": caption(scene), "category": scene.category} for scene in scenes]
    held_out[0]["prompt"] = HOSTILE
    strip = [caption(scene) for scene in scenes[:6]]
    folder.mkdir()
    prompts = json.dumps({"strip": strip, "held_out": held_out})
    (folder / "prompts.json").write_text(prompts, encoding="utf-8")
    for seed, name in enumerate(("base", "final")):
        (folder / name).mkdir()
        for index, scene in enumerate(scenes):
            for sample in range(samples):
                picture = render(scene, np.random.default_rng([seed, index, sample]))
                picture.save(folder / name / f"{index:02d}-{sample}.png")
    for step in steps:
        place = folder / f"step-{step:06d}"
        place.mkdir()
        for index, scene in enumerate(scenes[:6]):
            picture = render(scene, np.random.default_rng([7, step, index]))
            picture.save(place / f"strip-{index:02d}.png")

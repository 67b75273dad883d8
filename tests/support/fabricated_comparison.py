"""A comparison made up for tests: run folders in the layout of real ones, no training."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from adrpo.comparison import Plan, record
from adrpo.config import config_to_yaml, load_flow_config
from adrpo.embedded.rendering import render
from adrpo.embedded.scenes import caption, prompt_set
from support.fabricated_run import HOSTILE

STEPS = (0, 20, 40)
EXTENDS = """\
extends: flow/demo
reward:
- {name: clip_score, options: {model: embedded}}
- {name: clip_novelty, weight: 0.01, options: {model: embedded}}
"""
GAINS = {"ours": (0.15, 4.0, 0.93), "fixed": (0.08, 2.0, 0.97), "greedy": (0.14, 5.0, 0.6)}
"""Method -> final gain of gold accuracy and of the CLIP scores, and the share of diversity kept."""

Values = dict[str, np.ndarray]


def fabricate_comparison(
    folder: Path,
    *,
    methods: tuple[str, ...] = tuple(GAINS),
    seeds: int = 3,
    prompts: int = 24,
    samples: int = 4,
    seen: bool = True,
) -> Plan:
    """Recipes ``<folder>/../recipes/<method>.yaml`` and finished runs of them in ``folder``.

    The first held-out prompt is HOSTILE.
    """
    recipes = folder.parent / "recipes"
    recipes.mkdir(parents=True)
    for place, name in enumerate(methods):
        text = f"{EXTENDS}training: {{steps: {STEPS[-1]}, max_grad_norm: {place + 1}.0}}\n"
        (recipes / f"{name}.yaml").write_text(text, encoding="utf-8")
    paths = [str(recipes / f"{name}.yaml") for name in methods]
    plan = Plan.resolve(folder, paths, [], seeds, None)
    record(plan)
    for method in plan.methods:
        for seed in plan.seeds:
            run = plan.run_folder(method, seed)
            config = load_flow_config(method.recipe, [f"training.seed={seed}"])
            _write_run(run, config_to_yaml(config), method.name, seed, prompts, samples, seen)
    return plan


def _write_run(
    run: Path, config: str, method: str, seed: int, prompts: int, samples: int, seen: bool
) -> None:
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(config, encoding="utf-8")
    (run / "final").mkdir()
    (run / "final" / "pytorch_lora_weights.safetensors").write_bytes(b"weights")
    metrics = [{"step": step, "wall_seconds": 2.0 * step} for step in range(1, STEPS[-1] + 1)]
    _write_lines(run / "metrics.jsonl", metrics)
    rows = []
    for step in STEPS:
        place = run / "samples" / f"step-{step:06d}"
        place.mkdir(parents=True)
        for split, name in (("unseen", "values.json"), ("seen", "values-seen.json")):
            if split == "seen" and not seen:
                continue
            values = _values(method, seed, step, prompts, samples, split == "seen")
            plain = {key: table.round(6).tolist() for key, table in values.items()}
            (place / name).write_text(json.dumps(plain), encoding="utf-8")
            row: dict[str, Any] = {"step": step, "split": split, "prompts": prompts}
            for key, table in values.items():
                row |= {key: table.mean(), f"{key}_low": table.min(), f"{key}_high": table.max()}
            rows.append(row)
    _write_lines(run / "evaluations.jsonl", rows)
    _write_pictures(run / "samples", method, prompts, samples)


def _values(method: str, seed: int, step: int, prompts: int, samples: int, seen: bool) -> Values:
    """Metric -> [prompts, K]: the base's luck, the same for all, and what training adds."""
    luck = np.random.default_rng([5, seen])
    ease = luck.beta(2, 2, size=(prompts, 1))
    draw = luck.uniform(size=(prompts, samples))
    score = luck.normal(60, 5, size=(prompts, 1)) + luck.normal(0, 2, size=draw.shape)
    spread = luck.uniform(20, 40, size=prompts)
    grown = 1 - np.exp(-3 * step / STEPS[-1])
    own = np.random.default_rng([sum(map(ord, method)), seed, seen])
    gold, clip, kept = GAINS[method]
    shift = own.normal(0, 0.1) * grown
    reward = score + grown * (clip + own.normal(0, 0.8, size=draw.shape)) + shift
    return {
        "gold_accuracy": (draw < ease + grown * gold + 0.2 * shift).astype(float),
        "clip_score": reward + 10,
        "clip_score_evaluation": reward - grown * clip / 2,
        "divergence": grown * own.uniform(0.5, 1.5, size=draw.shape) * (0.03 - 0.02 * kept),
        "edge_density": own.uniform(0.1, 0.2, size=draw.shape),
        "clip_diversity": spread * (1 - grown * (1 - kept) + 0.02 * shift),
    }


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _write_pictures(folder: Path, method: str, prompts: int, samples: int) -> None:
    scenes = prompt_set(6, split="held_out", seed=0)
    held_out = [{"prompt": caption(scene), "category": scene.category} for scene in scenes]
    held_out[0]["prompt"] = HOSTILE
    categories = ["even", "odd"] * (prompts // 2)
    listing = {"strip": [], "held_out": held_out, "categories": categories}
    (folder / "prompts.json").write_text(json.dumps(listing), encoding="utf-8")
    for name, seed in (("base", 0), ("final", sum(map(ord, method)))):
        (folder / name).mkdir()
        for place, scene in enumerate(scenes):
            for k in range(samples):
                picture = render(scene, np.random.default_rng([seed, place, k]))
                picture.save(folder / name / f"{place:02d}-{k}.png")

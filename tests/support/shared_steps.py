"""Configurations of runs whose steps several processes share, each with a part of every step."""

import atexit
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from adrpo.config import FlowConfig
from support.tiny_runs import embedded_config

STEPS = 2


def sized_prompts() -> dict[str, Any]:
    """Section ``prompts`` of five prompts each, of two sizes that alternate."""
    folder = Path(tempfile.mkdtemp(prefix="sized-prompts-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    found: dict[str, Any] = {}
    for part, color in (("train", "red"), ("held_out", "blue")):
        lines = [
            {"prompt": f"a {color} {shape}", "height": 32 if number % 2 else None, "width": 48}
            for number, shape in enumerate(("circle", "square", "star", "cross", "triangle"))
        ]
        (folder / f"{part}.jsonl").write_text("\n".join(map(json.dumps, lines)))
        found[part] = str(folder / f"{part}.jsonl")
    return found


def config(
    *rewards: str, training: dict[str, Any], held_out: int = 5, **sections: Any
) -> FlowConfig:
    """Nine samples a step, so that shares differ (4 and 5) and the second of three groups is torn,
    and five prompts to evaluate (2 and 3)."""
    settings = embedded_config(
        prompts={"train_size": 5, "held_out_size": held_out} | sections.pop("prompts", {}),
        training={"steps": STEPS, "prompts_per_step": 3, "micro_batch_size": 4, **training},
        checkpoint={"every": 1, "keep": STEPS + 1},
        **sections,
    )
    rewarded = FlowConfig.model_validate({"reward": [{"name": name} for name in rewards]})
    return settings.model_copy(update={"reward": rewarded.reward})


CONFIGS = {
    # The second reward compares the images of a prompt, and so does the one that only measures.
    "adrpo": config(
        "clip_score",
        "clip_novelty",
        training={"timesteps_per_sample": 2, "reward_normalization": "running"},
        algorithm={"anchor": "ema"},
        evaluation={
            "every": STEPS,
            "seen_prompts": 3,
            "rewards": [{"name": "adrpo.rewards.image:ClipNovelty"}],
        },
        trackers=["tensorboard"],
    ),
    # Even shares, and rows whose coefficient is 0 in one process alone.
    "sharded": config(
        "clip_score",
        training={"prompts_per_step": 2, "timesteps_per_sample": 2},
        held_out=4,
        model={"gradient_checkpointing": True},
        algorithm={"beta_0": 1.0, "advantage_clip": [-1.0, 1.0]},
        evaluation={"every": STEPS, "seen_prompts": 2},
    ),
    "flow_grpo": config(
        "clip_score",
        training={},
        sampling={"steps": 3},
        algorithm={"method": "flow_grpo", "updates_per_step": 2, "advantage_scale": "global"},
    ),
    # Three pairs of samples, so that shares differ (1 and 2), and updates of two and of one.
    "fdfo": config(
        "clip_score",
        training={"samples_per_prompt": 2},
        sampling={"steps": 3},
        algorithm={
            "method": "fdfo",
            "updates_per_step": 2,
            "points": 2,
            "beta_0": 1.0,
            "coefficient": {"schedule": "adaptive"},
        },
    ),
    # The torn group's means, the gate's ranks and the novelty of an image are those of all.
    "crd": config(
        "clip_score",
        training={"timesteps_per_sample": 2},
        algorithm={
            "method": "crd",
            "advantage_scale": "batch",
            "advantage_novelty": {"name": "clip_novelty", "options": {"nearest": True}},
            "anchor_guidance_scale": 1.0,
            "coefficient": {
                "schedule": "gated",
                "share": 0.2,
                "scores": [{"name": "clip_score", "options": {"model": "embedded-evaluation"}}],
            },
        },
    ),
    "dgpo": config(
        "clip_score",
        training={"timesteps_per_sample": 2},
        algorithm={"method": "dgpo", "anchor": "ema"},
    ),
    "dpo": config(
        "clip_score",
        training={},
        algorithm={"method": "dpo", "pairs_prompts": 5, "pairs_samples": 3},
    ),
    "sizes": config(
        "clip_score",
        training={"timesteps_per_sample": 2},
        prompts=sized_prompts(),
        evaluation={"every": STEPS, "batch_size": 3},
    ),
}

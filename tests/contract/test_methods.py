"""What every method must do as a whole run: learn, repeat itself, and survive a stop."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adrpo.config import AlgorithmSection, FlowConfig, load_flow_config, recipe_names
from adrpo.config.fields import sections_in
from adrpo.flow.domain import build_trainer
from adrpo.runs import RunDirectory
from support.tiny_runs import (
    adapter_bytes,
    metrics_without_timings,
    tiny_config,
    whole_and_resumed,
)

RECIPES = [name for name in recipe_names() if name.startswith("flow/")]
METHODS = sorted({load_flow_config(name).algorithm.method for name in RECIPES})

SETTINGS: dict[str, dict[str, Any]] = {
    "orw_cfm_w2": {"advantage_scale": "batch", "beta_0": 0.3},
    "diffusion_nft": {"beta_0": 0.3, "advantage_clip": 2.0},
    "fdfo": {"churn": 0.3, "clip_range": 0.3},
    "dpo": {"pairs_prompts": 8, "pairs_samples": 6},
}
"""Method -> what it learns faster with than with its defaults."""

PAIRED = {"samples_per_prompt": 4}
"""Of FDFO, which draws no odd number."""


def config(method: str, **sections: dict[str, Any]) -> FlowConfig:
    algorithm = {"method": method, **SETTINGS.get(method, {})}
    if method == "fdfo":
        sections["training"] = PAIRED | sections.get("training", {})
    return tiny_config(sampling={"steps": 4}, algorithm=algorithm, **sections)


def brightness(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
    """Lightness of the ground, which no caption fixes; its spread within a prompt is about 2."""
    return [float(np.median(np.asarray(image))) / 2 for image in images]


def test_every_method_has_a_recipe_and_so_is_held_to_the_contract():
    forms = sections_in(AlgorithmSection)
    assert sorted(form.model_fields["method"].annotation.__args__[0] for form in forms) == METHODS


QUICK = {"dpo": 4, "fdfo": 4, "flow_grpo": 4}
"""A method of each trainer but that of adrpo, which tests/learning has, and the steps after which
it has gained four times what is asked. The others weigh the terms of that of adrpo, and learn in
the slow suite."""
LEARNING = [
    pytest.param(method, marks=() if method in QUICK else pytest.mark.slow) for method in METHODS
]


@pytest.mark.parametrize("method", LEARNING)
def test_the_reward_rises_on_unseen_prompts(method: str, tmp_path: Path):
    trainer = build_trainer(
        config(
            method,
            model={"pretrained": "embedded"},
            prompts={"train_size": 8, "held_out_size": 4},
            training={
                "prompts_per_step": 4,
                "samples_per_prompt": 6,
                "micro_batch_size": 24,
                "learning_rate": 3e-3,
            },
            evaluation={"samples_per_prompt": 12, "sampling": {"steps": 4}},
        ),
        reward=brightness,
    )
    trainer.prepare(RunDirectory.create(tmp_path / "run", "domain: flow\n"))
    before = trainer.evaluator.measure().values["brightness"]
    for step in range(1, 1 + QUICK.get(method, 12)):
        trainer.step(step)
    after = trainer.evaluator.measure().values["brightness"]
    # 48 pairs that share their noise; half of the gain that the weakest method shows in 12 steps.
    assert (after - before).mean() > 0.15 * before.std(axis=1).mean()


@pytest.mark.parametrize("method", METHODS)
def test_a_stopped_run_ends_as_if_it_had_never_stopped(method: str, tmp_path: Path):
    """The same seed twice, once with a stop after step 3 and a checkpoint at step 2."""
    settings = config(method, training={"ema_decay": 0.5}, evaluation={"seen_prompts": 2})
    whole_and_resumed(settings, brightness, tmp_path)
    whole, resumed = tmp_path / "whole", tmp_path / "stopped"
    assert metrics_without_timings(resumed) == metrics_without_timings(whole)
    assert adapter_bytes(resumed) == adapter_bytes(whole)
    evaluations = [(run / "evaluations.jsonl").read_text() for run in (whole, resumed)]
    assert evaluations[0] == evaluations[1]
    splits = [json.loads(line)["split"] for line in evaluations[0].splitlines()]
    assert splits == ["unseen", "seen"] * 3

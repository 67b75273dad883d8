"""A run that writes its rows and samples while trackers hear of them, without a training."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from adrpo.config import FlowConfig, config_to_yaml
from adrpo.runs.directory import RunDirectory
from adrpo.runs.processes import ALONE
from adrpo.runs.tracking import FILE, tracked

PROMPTS = ["a red circle", "two | blue stars"]
EVERY = 2
"""Steps between evaluations."""


def tracking_config(*trackers: Any) -> FlowConfig:
    return FlowConfig.model_validate({"trackers": list(trackers)})


def new_run(folder: Path, config: FlowConfig) -> RunDirectory:
    return RunDirectory.create(folder, config_to_yaml(config))


def row_of(step: int) -> dict[str, Any]:
    """A step's row, with what is no finite number among its columns."""
    lost = {"divergence": float("nan"), "reward_error": "judge: away"}
    return {"step": step, "reward_mean": step / 8, "samples": 64} | (lost if step == 1 else {})


def evaluation_of(step: int, split: str = "unseen") -> dict[str, Any]:
    return {"step": step, "split": split, "samples": 4, "clip_score": 70 + step / 4}


@contextmanager
def until_a_kill(run: RunDirectory, config: FlowConfig) -> Iterator[None]:
    """A block that is tracked, and of which nothing is kept at its end."""
    with tracked(run, config, ALONE):
        kept = (run.path / FILE).read_bytes()
        yield
    (run.path / FILE).write_bytes(kept)


def write_steps(
    run: RunDirectory,
    config: FlowConfig,
    first: int,
    last: int,
    *,
    killed: bool = False,
    completions: bool = False,
) -> None:
    """Write the rows of steps ``first`` (0: the base's evaluation) ... ``last`` of a run that is
    tracked as ``config`` says, and an evaluation of both splits after every second step."""
    with until_a_kill(run, config) if killed else tracked(run, config, ALONE):
        for step in range(first, last + 1):
            if step > 0:
                run.append_metrics(row_of(step))
            if step % EVERY == 0:
                (write_completions if completions else write_pictures)(run, step)
                for split in ("unseen", "seen"):
                    run.append_evaluation(evaluation_of(step, split))


def write_pictures(run: RunDirectory, step: int) -> None:
    """A picture of each prompt, whose first pixel's red is the step."""
    folder = run.samples / f"step-{step:06d}"
    folder.mkdir(parents=True, exist_ok=True)
    for place in range(len(PROMPTS)):
        picture = Image.new("RGB", (6, 4), (step, place, 9))
        picture.save(folder / f"strip-{place:02d}.png")
    (run.samples / "prompts.json").write_text(json.dumps({"strip": PROMPTS}), encoding="utf-8")


def write_completions(run: RunDirectory, step: int) -> None:
    """Two completions of one question about a clip; the reward of the second is missing."""
    clips = run.samples / "clips"
    clips.mkdir(parents=True, exist_ok=True)
    soundfile.write(str(clips / "0-0.flac"), tone(), 8000, format="FLAC", subtype="PCM_16")
    row = {
        "prompt": [{"role": "user", "content": "Which tone?"}],
        "completions": [f"low at {step}", "a\nb|c"],
        "rewards": [1.0, None],
        "clips": ["clips/0-0.flac"],
        "answer": "low",
    }
    path = run.samples / ("base.jsonl" if step == 0 else "final.jsonl")
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")


def tone() -> np.ndarray:
    """A tenth of a second at 8 kHz."""
    return 0.5 * np.sin(np.arange(800) / 8).astype(np.float32)


def rows_sent(steps: int) -> dict[str, list[tuple[int, float]]]:
    """Name -> [(step, value)] of the numbers of a run of so many steps, worked out by hand."""
    made = list(range(1, steps + 1))
    evaluated = list(range(0, steps + 1, EVERY))
    found: dict[str, list[tuple[int, float]]] = {
        "train/reward_mean": [(step, step / 8) for step in made],
        "train/samples": [(step, 64.0) for step in made],
    }
    for split in ("unseen", "seen"):
        found[f"{split}/samples"] = [(step, 4.0) for step in evaluated]
        found[f"{split}/clip_score"] = [(step, 70 + step / 4) for step in evaluated]
    return found

"""The keys of the domain flow that a run's folder and its evaluations show.

One run has all of them changed; another one stops early.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from adrpo.config import FlowConfig, FlowModelSection
from adrpo.embedded.rendering import SOLID, render
from adrpo.embedded.scenes import parse_caption
from adrpo.evaluation.distance_values import kernel_values
from adrpo.evaluation.image_features import ImageFeatures
from adrpo.flow.models.loading import load_policy
from adrpo.rewards.image import ClipScore
from wiring.adamw import distance
from wiring.flow_steps import integrated, parts
from wiring.image_steps import Drawn, Step, WatchedTrainer, image_config, same
from wiring.rewards import PLAN
from wiring.table import Seen, Table
from wiring.tracked import TRACKERS, tracked

SAMPLING = {"steps": 3, "solver": "heun", "guidance_scale": 2.0}
CHANGED: dict[str, Any] = {
    "training": {"steps": 5, "ema_decay": 0.09},
    "checkpoint": {"every": 2, "keep": 3},
    "trackers": TRACKERS,
    "evaluation": {
        "every": 2, "samples_per_prompt": 3, "seen_prompts": 2, "batch_size": 5, "seed": 99,
        "clip": "embedded", "strip_prompts": 3, "sampling": SAMPLING,
        "distances": {"features": "embedded", "references": "scenes"},
        "rewards": [
            {"name": "clip_score", "options": {"model": "embedded-evaluation"}},
            {"name": "clip_score"},
        ],
    },
}  # fmt: skip


class ImageRun:
    """A run and what happened in it. ``evaluations`` has (split, calls of the sampler, adapter)."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self.watched = WatchedTrainer(image_config(**sections), moved=False)
        self.evaluations: list[tuple[str, list[Drawn], list[Tensor]]] = []
        trainer = self.watched.trainer
        with self.watched.listening() as heard:
            self.heard: Step = heard
            for evaluator in trainer.course.evaluators:
                self._listen(evaluator.drawing)
            self.folder = trainer.train(folder, progress=False)

    def _listen(self, drawing: Any) -> None:
        draw = drawing.draw

        def heard_draw(*arguments: Any) -> Any:
            before = len(self.heard.drawn)
            drawn = draw(*arguments)
            calls = self.heard.drawn[before:]
            self.evaluations.append((drawing.split, calls, self.watched.adapter()))
            return drawn

        drawing.draw = heard_draw

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The rows of a file of the run."""
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]

    def rows(self, split: str = "unseen") -> list[dict[str, Any]]:
        return [row for row in self.lines("evaluations.jsonl") if row["split"] == split]

    def final(self) -> list[Tensor]:
        """The adapter in ``final/``."""
        policy = load_policy(FlowModelSection(device="cpu"))
        policy.load_adapter(self.folder / "final")
        return [value.detach().clone() for value in policy.adapter_parameters()]


def moved(values: list[Tensor], run: ImageRun) -> list[Tensor]:
    return [value - start for value, start in zip(values, run.watched.start, strict=True)]


# --- training and checkpoints ---


def makes_so_many_steps(run: ImageRun, value: int) -> None:
    rows = run.lines("metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, value + 1))
    assert len(run.heard.updates) == value


def evaluates_and_keeps_the_average(run: ImageRun, value: float) -> None:
    """theta <- decay theta + (1 - decay) theta_t, whose warm-up is above this decay."""
    average, averages = run.watched.start, [run.watched.start]
    for update in run.heard.updates:
        average = [
            value * old + (1 - value) * new for old, new in zip(average, update.after, strict=True)
        ]
        averages.append(average)
    evaluated = [adapter for split, _, adapter in run.evaluations if split == "unseen"]
    for adapter, step in zip(evaluated[1:], (2, 4, 5), strict=True):
        assert distance(moved(adapter, run), moved(averages[step], run)) < 1e-4
    assert distance(moved(run.final(), run), moved(average, run)) < 1e-4
    # Training itself goes on with the last weights.
    last = run.heard.updates[-1].after
    assert distance(moved(last, run), moved(average, run)) > 1e-2


def keeps_these_checkpoints(run: ImageRun, value: int) -> None:
    """After every second step of five, and the last; three of them, or all with more."""
    kept = sorted(path.name for path in (run.folder / "checkpoints").iterdir())
    assert kept == ["step-000002", "step-000004", "step-000005"]


# --- evaluations ---


def evaluates_at(run: ImageRun, value: int) -> None:
    assert [row["step"] for row in run.rows()] == [0, value, 2 * value, 5]


def draws_so_many(run: ImageRun, value: int) -> None:
    """So many images of each prompt, with that prompt, and of a noise of their own."""
    row, (_, calls, _) = run.rows()[0], run.evaluations[0]
    assert row["samples"] == value * row["prompts"]
    x_0 = torch.cat([call.x_0 for call in calls])
    assert len(x_0) == row["samples"] and len(x_0.flatten(1).unique(dim=0)) == len(x_0)
    prompts = run.heard.scored[1][0]
    assert prompts == [name for name in prompts[::value] for _ in range(value)]
    for call, place in parts(calls):
        asked = prompts[place : place + len(call.x_0)]
        assert same(call.conditioning, run.watched.policy.encode(asked))


def evaluates_seen_prompts(run: ImageRun, value: int) -> None:
    rows = run.rows("seen")
    assert [(row["step"], row["prompts"]) for row in rows] == [(n, value) for n in (0, 2, 4, 5)]
    train = {prompt.text for prompt in run.watched.trainer.prompts}
    scored = [set(prompts) for prompts, _, _ in run.heard.scored]
    # The trial and the evaluation of held-out prompts come first, then that of the others.
    trial, unseen, seen = scored[:3]
    assert seen < train and len(seen) == value and not unseen & train and trial <= unseen


def bounds_the_batch(run: ImageRun, value: int) -> None:
    for _, calls, _ in run.evaluations:
        total = sum(len(call.x_0) for call in calls)
        sizes = [len(call.x_0) for call in calls]
        assert sizes == [value] * (total // value) + [total % value] * bool(total % value)


def seeds_the_evaluation(run: ImageRun, value: int) -> None:
    """The same noise in every evaluation; another one with another seed."""
    unseen = [
        torch.cat([call.x_0 for call in calls])
        for split, calls, _ in run.evaluations
        if split == "unseen"
    ]
    assert all(torch.equal(x_0, unseen[0]) for x_0 in unseen)
    default = image_config(evaluation={"samples_per_prompt": 3})
    assert default.evaluation.seed != value
    watched = WatchedTrainer(default)
    drawing = watched.trainer.evaluator.drawing
    x_1 = drawing.draw().x_1
    assert distance(x_1, torch.cat([c.x_1 for c in run.evaluations[0][1]])) > 0.5
    # And other points of the divergence.
    times = []
    for seed in (default.evaluation.seed, value):
        drawing.settings = drawing.settings.model_copy(update={"seed": seed})
        with watched.listening() as heard:
            drawing._against_the_base(watched.policy, x_1)
        times.append(torch.cat([call.t for call in heard.rollout + heard.calls]))
    assert distance(times[0], times[1]) > 0.1


def of_clip(run: ImageRun, model: str) -> float:
    """Mean CLIP score of the base's images by ``model``."""
    prompts, images, _ = run.heard.scored[1]
    scores: Any = ClipScore(model, "cpu")(prompts, images=images)
    return float(np.mean(scores))


def measures_by_this_clip(run: ImageRun, value: str) -> None:
    row = run.rows()[0]
    assert row["clip_score_evaluation"] == pytest.approx(of_clip(run, value), abs=1e-3)
    other = of_clip(run, "embedded-evaluation")
    assert abs(row["clip_score_evaluation"] - other) > 0.1


def distance_by(run: ImageRun, model: str) -> float:
    """Kernel distance by ``model`` of the base's images from right pictures of their captions."""
    prompts, images, _ = run.heard.scored[1]
    each, network = 3, ImageFeatures(model)
    real = []
    for number, text in enumerate(prompts[::each]):
        rng = np.random.default_rng((99, number))  # evaluation.seed
        real += [render(parse_caption(text), rng, open_styles=SOLID) for _ in range(each)]
    features = (network.of(part).view(-1, each, 64) for part in (images, real))
    return float(kernel_values(*features).mean())


def compares_by_these_features(run: ImageRun, value: str) -> None:
    found = run.rows()[0]["kernel_distance"]
    assert found == pytest.approx(distance_by(run, value), rel=1e-3)
    assert found != pytest.approx(distance_by(run, "embedded-evaluation"), rel=0.1)


def compares_with_these(run: ImageRun, value: str) -> None:
    """With these from the first evaluation on, and not with the base's own."""
    for row in run.rows():
        assert {"frechet_distance", "kernel_distance"} <= row.keys()
        assert not {"frechet_drift", "kernel_drift"} & row.keys()
    assert run.rows()[0]["frechet_distance"] > 0.1


def measures_with_options(run: ImageRun, value: dict[str, str]) -> None:
    for row in run.rows()[:1]:
        assert row["clip_score"] == pytest.approx(of_clip(run, value["model"]), abs=1e-3)
        assert row["clip_score_2"] == pytest.approx(of_clip(run, "embedded"), abs=1e-3)


def measures_this_reward(run: ImageRun, value: str) -> None:
    for row in run.rows():
        assert {value, f"{value}_low", f"{value}_high"} <= row.keys()
    # It is measured, and trained on by nobody.
    assert not [name for name in run.lines("metrics.jsonl")[0] if value in name]


def shows_so_many(run: ImageRun, value: int) -> None:
    for step in (0, 2, 4, 5):
        strip = list((run.folder / "samples" / f"step-{step:06d}").glob("strip-*.png"))
        assert len(strip) == value


def is_drawn_with(key: str) -> Callable[[ImageRun, Any], None]:
    default = {"steps": 20, "solver": "euler", "guidance_scale": 1.0}[key]

    def effect(run: ImageRun, value: Any) -> None:
        _, calls, adapter = run.evaluations[-1]
        call = calls[-1]
        named = {**SAMPLING, key: value}
        assert distance(call.x_1, integrated(run.watched, call, adapter, **named)) < 1e-4
        without = {**named, key: default}
        assert distance(call.x_1, integrated(run.watched, call, adapter, **without)) > 1e-3

    return effect


def is_refused(key: str) -> Callable[[Any, Any], None]:
    """A measured reward is written as it is, so that the key has one value."""

    def effect(_: Any, value: Any) -> None:
        term = {"name": "clip_score", key: value}
        with pytest.raises(ValidationError, match="without weight and logistic"):
            FlowConfig.model_validate({"evaluation": {"rewards": [term]}})

    return effect


# --- a run that stops early ---

STOPPING = {
    "training": {"steps": 5, "learning_rate": 0.01},
    "evaluation": {
        "every": 1, "early_stopping": "planned", "patience": 2,
        "rewards": [{"name": "wiring.rewards:planned"}],
    },
}  # fmt: skip


def stopped_run(folder: Path) -> ImageRun:
    """A run whose best evaluation is that of its first step; the first call is a trial."""
    PLAN[:] = [0.0, 1.0, 5.0, 3.0, 4.0, 9.0]
    return ImageRun(folder, **STOPPING)


def ends_after_the_patience(run: ImageRun, value: int) -> None:
    assert [row["step"] for row in run.rows()] == [0, 1, 2, 1 + value]
    assert len(run.lines("metrics.jsonl")) == 1 + value


def keeps_the_best(run: ImageRun, value: str) -> None:
    assert [row[value] for row in run.rows()] == [1.0, 5.0, 3.0, 4.0]
    first, *others = run.heard.updates
    assert distance(run.final(), first.after) < 1e-6
    assert all(distance(run.final(), update.after) > 1e-6 for update in others)


RUN: Table = {
    "training.steps": Seen(5, makes_so_many_steps),
    "training.ema_decay": Seen(0.09, evaluates_and_keeps_the_average),
    "checkpoint.every": Seen(2, keeps_these_checkpoints),
    "checkpoint.keep": Seen(3, keeps_these_checkpoints),
    "evaluation.every": Seen(2, evaluates_at),
    "evaluation.samples_per_prompt": Seen(3, draws_so_many),
    "evaluation.seen_prompts": Seen(2, evaluates_seen_prompts),
    "evaluation.batch_size": Seen(5, bounds_the_batch),
    "evaluation.seed": Seen(99, seeds_the_evaluation),
    "evaluation.clip": Seen("embedded", measures_by_this_clip),
    "evaluation.distances.features": Seen("embedded", compares_by_these_features),
    "evaluation.distances.references": Seen("scenes", compares_with_these),
    "evaluation.strip_prompts": Seen(3, shows_so_many),
    "evaluation.rewards.name": Seen("clip_score", measures_this_reward),
    "evaluation.rewards.options": Seen({"model": "embedded-evaluation"}, measures_with_options),
    "evaluation.rewards.weight": Seen(2.0, is_refused("weight")),
    "evaluation.rewards.logistic.location": Seen(
        {"location": 1.0, "scale": 1.0}, is_refused("logistic")
    ),
    "evaluation.rewards.logistic.scale": Seen(
        {"location": 0.0, "scale": 2.0}, is_refused("logistic")
    ),
    **{
        f"evaluation.sampling.{key}": Seen(value, is_drawn_with(key))
        for key, value in SAMPLING.items()
    },
    **tracked(lambda run: run.folder),
}
STOPPED: Table = {
    "evaluation.early_stopping": Seen("planned", keeps_the_best),
    "evaluation.patience": Seen(2, ends_after_the_patience),
}

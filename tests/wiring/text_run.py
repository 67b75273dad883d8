"""The keys that a whole run of a model that completes prompts shows, in the domains llm and audio.

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
from safetensors.torch import load_file

from wiring.rewards import PLAN, SAID, number, words
from wiring.table import AsAt, Elsewhere, Seen, Table
from wiring.text_steps import Laboratory, Run
from wiring.tracked import TRACKERS, tracked

TERM = {
    "name": "wiring.rewards:letters", "weight": -2.0, "options": {"unit": 3.0},
    "logistic": {"location": 1.0, "scale": 0.7},
}  # fmt: skip
MEASURED: dict[str, Any] = {"name": "wiring.rewards:lengths", "options": {"unit": 2.0}}
CHANGED: dict[str, Any] = {
    "training": {"steps": 5, "seed": 7, "learning_rate": 1e-2},
    "checkpoint": {"every": 2, "keep": 3},
    "trackers": TRACKERS,
    "reward": [TERM],
    "prompts": {"held_out_size": 6},
    "evaluation": {
        "every": 2, "samples_per_prompt": 3, "seen_prompts": 2, "batch_size": 5, "seed": 99,
        "shown_prompts": 3, "rewards": [MEASURED],
    },
}  # fmt: skip
STOPPING: dict[str, Any] = {
    "training": {"steps": 4},
    "evaluation": {
        "every": 1, "samples_per_prompt": 2, "early_stopping": "planned", "patience": 1,
        "rewards": [{"name": "wiring.rewards:planned"}],
    },
}  # fmt: skip


class TextRun:
    """A run by its own trainer and what happened in it: ``said`` has every call of the reward,
    ``sizes`` the batches of each evaluation, ``weights`` the trained weights after each step."""

    def __init__(self, lab: Laboratory, **sections: Any) -> None:
        self.lab = lab
        self.run: Run = lab.run(**sections)
        self.evaluations: list[tuple[str, list[int], Any]] = []
        make = self.run._trainer
        self.trainers: list[Any] = []
        self.run._trainer = lambda *given: self._kept(make(*given))
        evaluator = self.run._evaluator
        self.run._evaluator = lambda *given: self._heard(evaluator(*given))
        SAID.clear()
        self.folder: Path = self.run.train(lab.new_folder(), progress=False)
        self.said = list(SAID)

    def _kept(self, trainer: Any) -> Any:
        self.trainers.append(trainer)
        return trainer

    def _heard(self, evaluator: Any) -> Any:
        drawing, sizes = evaluator.drawing, []
        draw, part = drawing.draw, drawing._draw

        def heard_draw(*given: Any) -> Any:
            sizes.clear()
            drawn = draw(*given)
            self.evaluations.append((drawing.split, list(sizes), drawn))
            return drawn

        def heard_part(model: Any, rows: Any) -> Any:
            sizes.append(len(rows))
            return part(model, rows)

        drawing.draw, drawing._draw = heard_draw, heard_part
        return evaluator

    def lines(self, name: str) -> list[dict[str, Any]]:
        text = (self.folder / name).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def rows(self, split: str = "unseen") -> list[dict[str, Any]]:
        return [row for row in self.lines("evaluations.jsonl") if row["split"] == split]

    def weights(self, place: str) -> dict[str, Any]:
        """The adapter in a folder of the run."""
        return load_file(self.folder / place / "adapter_model.safetensors")


def changed(lab: Laboratory) -> TextRun:
    return lab.once("changed", lambda: TextRun(lab, **CHANGED))


def stopped(lab: Laboratory) -> TextRun:
    def make() -> TextRun:
        PLAN[:] = [0.0, 1.0, 5.0, 3.0, 4.0, 9.0]
        return TextRun(lab, **STOPPING)

    return lab.once("stopped", make)


# --- training, checkpoints, the seed ---


def makes_so_many_steps(lab: Laboratory, value: int) -> None:
    rows = changed(lab).lines("metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, value + 1))


def keeps_these_checkpoints(lab: Laboratory, _: int) -> None:
    """After every second step of five, and the last; three of them."""
    kept = sorted(path.name for path in (changed(lab).folder / "checkpoints").glob("checkpoint-*"))
    assert kept == ["checkpoint-2", "checkpoint-4", "checkpoint-5"]


def seeds_every_stream(lab: Laboratory, value: int) -> None:
    """Adapter, order of the prompts and completions are others than those of the seed 0."""
    ours = changed(lab)
    assert ours.run.config.training.seed == value
    plain = stopped(lab)  # whose seed is 0
    begins = [run.weights("checkpoints/checkpoint-2") for run in (ours, plain)]
    for name, tensor in begins[0].items():
        if "lora_A" in name:
            # It moves by a hundredth of itself in these steps.
            assert float((tensor - begins[1][name]).norm() / tensor.norm()) > 0.5
    steps = [trained(run) for run in (ours, plain)]
    assert steps[0][0][0] != steps[1][0][0], "the same prompts in the same order"
    assert steps[0][0][0] != steps[0][1][0], "the same prompts at every step"


def trained(run: TextRun) -> list[tuple[list[Any], list[Any], dict[str, Any]]]:
    """The calls of the reward that are no evaluation's: a batch of the step's own size."""
    training = run.run.config.training
    size = training.prompts_per_step * training.samples_per_prompt
    return [call for call in run.said if len(call[0]) == size]


# --- rewards ---


def is_scored(key: str) -> Callable[[Laboratory, Any], None]:
    """The rewards are those of the formula with all keys, and other ones without this one."""

    def total(said: Any, weight: float, unit: float, location: float, scale: float) -> Any:
        prompts, completions, _ = said
        r = np.array(
            [
                0.0 if number(prompt) % 2 else (number(completion) % 7) / unit
                for prompt, completion in zip(prompts, completions, strict=True)
            ]
        )
        return weight / (1 + np.exp(-(r - location) / scale))

    def effect(lab: Laboratory, _: Any) -> None:
        run = changed(lab)
        named = {"weight": -2.0, "unit": 3.0, "location": 1.0, "scale": 0.7}
        default = {"weight": 1.0, "unit": 1.0, "location": 0.0, "scale": 1.0}
        without = named | {key: default[key]}
        rows, calls = run.lines("metrics.jsonl"), trained(run)
        for row, said in zip(rows, calls, strict=True):
            assert row["reward_mean"] == pytest.approx(total(said, **named).mean(), abs=1e-5)
            assert abs(row["reward_mean"] - total(said, **without).mean()) > 0.01

    return effect


def scores_by(lab: Laboratory, value: str) -> None:
    """The reward of its name is called at every step."""
    run = changed(lab)
    assert run.run.config.reward[0].name == value
    assert len(trained(run)) == 5


# --- evaluations ---


def evaluates_at(lab: Laboratory, value: int) -> None:
    assert [row["step"] for row in changed(lab).rows()] == [0, value, 2 * value, 5]


def draws_so_many(lab: Laboratory, value: int) -> None:
    run = changed(lab)
    row, (_, _, drawn) = run.rows()[0], run.evaluations[0]
    assert row["samples"] == value * row["prompts"] == len(drawn.texts)
    assert row["prompts"] == len(run.run.held_out)


def evaluates_seen_prompts(lab: Laboratory, value: int) -> None:
    run = changed(lab)
    rows = run.rows("seen")
    assert [(row["step"], row["prompts"]) for row in rows] == [(n, value) for n in (0, 2, 4, 5)]
    # The trial and the evaluation of held-out prompts come first, then that of the others.
    unseen, seen = ({words(prompt) for prompt in prompts} for prompts, _, _ in run.said[1:3])
    train = {words(prompt) for prompts, _, _ in trained(run) for prompt in prompts}
    known = {words(prompt.content) for prompt in run.run.prompts}
    assert unseen == {words(prompt.content) for prompt in run.run.held_out} != known
    assert len(seen) == value and seen <= known and train <= known


def bounds_the_batch(lab: Laboratory, value: int) -> None:
    for _, sizes, drawn in changed(lab).evaluations:
        whole, rest = divmod(len(drawn.texts), value)
        assert sizes == [value] * whole + [rest] * bool(rest)


def seeds_the_evaluation(lab: Laboratory, value: int) -> None:
    """The untrained model draws others than by the default's seed."""
    run = changed(lab)
    drawn = run.evaluations[0][2]
    assert run.run.config.evaluation.seed == value
    sections = {**CHANGED, "evaluation": {**CHANGED["evaluation"], "seed": 1234}}
    other = lab.run(**sections)
    with other.subject() as subject:
        assert subject.evaluator.drawing.draw().texts != drawn.texts
    same = lab.run(**CHANGED)
    with same.subject() as subject:
        assert subject.evaluator.drawing.draw().texts == drawn.texts


def shows_so_many(lab: Laboratory, value: int) -> None:
    for name in ("base", "final"):
        assert len(changed(lab).lines(f"samples/{name}.jsonl")) == value


def measures_this_reward(lab: Laboratory, value: Any) -> None:
    run = changed(lab)
    assert value in MEASURED.values()
    name, unit = "lengths", MEASURED["options"]["unit"]
    for row, (_, _, drawn) in zip(
        run.rows(), [e for e in run.evaluations if e[0] == "unseen"], strict=True
    ):
        mean = np.mean([len(text) for text in drawn.texts]) / unit
        assert row[name] == pytest.approx(mean)
    assert not [column for column in run.lines("metrics.jsonl")[0] if name in column]


def ends_after_the_patience(lab: Laboratory, value: int) -> None:
    run = stopped(lab)
    assert [row["step"] for row in run.rows()] == [0, 1, 1 + value]
    assert len(run.lines("metrics.jsonl")) == 1 + value


def keeps_the_best(lab: Laboratory, value: str) -> None:
    """final/ is the adapter of step 1, whose evaluation is the best, and not that of step 2."""
    run = stopped(lab)
    assert [row[value] for row in run.rows()] == [1.0, 5.0, 3.0]
    kept, last = run.weights("final"), run.weights("checkpoints/checkpoint-2")
    moved = {name: not torch.equal(kept[name], last[name]) for name in kept}
    assert any(moved.values())
    rate = run.run.config.training.learning_rate
    for name, tensor in kept.items():
        if "lora_B" in name:
            # B begins at 0, and AdamW's first step moves by its rate at most, the second by more.
            assert 0 < float(tensor.abs().max()) <= rate * 1.001


def is_measured_as_it_is(key: str) -> Callable[[Laboratory, Any], None]:
    """A measured reward is written as it is, so that the key has one value."""

    def effect(lab: Laboratory, value: Any) -> None:
        with pytest.raises(ValidationError, match="without weight and logistic"):
            lab.config(evaluation={"rewards": [{**MEASURED, key: value}]})

    return effect


RUN: Table = {
    "training.steps": Seen(5, makes_so_many_steps),
    "training.seed": Seen(7, seeds_every_stream),
    "checkpoint.every": Seen(2, keeps_these_checkpoints),
    "checkpoint.keep": Seen(3, keeps_these_checkpoints),
    "reward.name": Seen("wiring.rewards:letters", scores_by),
    "reward.weight": Seen(-2.0, is_scored("weight")),
    "reward.options": Seen({"unit": 3.0}, is_scored("unit")),
    "reward.timeout": Elsewhere(
        ("tests/faults/test_misbehaving_rewards.py::test_the_key_timeout_reaches_the_reward",)
    ),
    "evaluation.rewards.timeout": AsAt("reward.timeout"),
    "reward.logistic.location": Seen(1.0, is_scored("location")),
    "reward.logistic.scale": Seen(0.7, is_scored("scale")),
    "evaluation.every": Seen(2, evaluates_at),
    "evaluation.samples_per_prompt": Seen(3, draws_so_many),
    "evaluation.seen_prompts": Seen(2, evaluates_seen_prompts),
    "evaluation.batch_size": Seen(5, bounds_the_batch),
    "evaluation.seed": Seen(99, seeds_the_evaluation),
    "evaluation.shown_prompts": Seen(3, shows_so_many),
    "evaluation.early_stopping": Seen("planned", keeps_the_best),
    "evaluation.patience": Seen(1, ends_after_the_patience),
    "evaluation.rewards.name": Seen("wiring.rewards:lengths", measures_this_reward),
    "evaluation.rewards.options": Seen({"unit": 2.0}, measures_this_reward),
    "evaluation.rewards.weight": Seen(2.0, is_measured_as_it_is("weight")),
    "evaluation.rewards.logistic.location": Seen(
        {"location": 1.0, "scale": 1.0}, is_measured_as_it_is("logistic")
    ),
    "evaluation.rewards.logistic.scale": Seen(
        {"location": 0.0, "scale": 2.0}, is_measured_as_it_is("logistic")
    ),
    **tracked(lambda lab: changed(lab).folder),
}

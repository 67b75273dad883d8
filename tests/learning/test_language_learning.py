"""The embedded language model gets better at its task, and the right reward is what does it."""

from pathlib import Path

import pytest

from adrpo.config import LanguageConfig, load_recipe
from adrpo.llm.run import LanguageRun
from adrpo.runs.directory import RunDirectory
from support.tiny_language_trainers import LANGUAGE_MARKS

pytestmark = LANGUAGE_MARKS


def test_adrpo_answers_more_questions_that_it_never_saw(tmp_path: Path):
    settings = ["training.steps=16", "evaluation.every=16", "evaluation.samples_per_prompt=4"]
    config = load_recipe("llm/embedded", [*settings, "model.device=cpu"])
    assert isinstance(config, LanguageConfig)
    run = LanguageRun(config).train(tmp_path / "run", progress=False)
    base, tuned = RunDirectory.open(run).read_evaluations("unseen")
    # In 20 steps one seed gained 0.14 [0.09, 0.18]; the paired interval must exclude 0.
    assert tuned["gold_accuracy_change_low"] > 0
    assert tuned["kl"] > 0 and base["kl"] == 0
    # Half of the samples have a coefficient of 0, and their reference is not computed.
    rows = RunDirectory.open(run).read_metrics()
    assert all(0.3 < row["reference_fraction"] < 0.8 for row in rows)
    assert all(row["beta_min"] == 0 and row["beta_max"] == pytest.approx(0.08) for row in rows)


def test_a_learned_reward_is_gained_and_its_coefficients_are_graded(tmp_path: Path):
    settings = ["training.steps=8", "evaluation.every=8", "training.learning_rate=3e-4"]
    config = load_recipe("llm/reward-model", [*settings, "model.device=cpu"])
    assert isinstance(config, LanguageConfig)
    run = LanguageRun(config).train(tmp_path / "run", progress=False)
    base, tuned = RunDirectory.open(run).read_evaluations("unseen")
    assert tuned["reward_change_low"] > 0
    # What is trained on is the proxy; gold stands beside it, of the same completions.
    assert base["reward"] == pytest.approx(base["reward_model"]) != base["gold_accuracy"]
    rows = RunDirectory.open(run).read_metrics()
    # The clip is one standard deviation of the base's rewards, beyond which 0.32 of a normal
    # distribution lie, and fewer once the policy is sharper; of the sign gate's all, 1.
    assert all(0.02 < row["advantage_clipped_fraction"] < 0.5 for row in rows)
    assert all(0 <= row["beta_min"] < 0.5 and 1.5 < row["beta_max"] <= 2 for row in rows)

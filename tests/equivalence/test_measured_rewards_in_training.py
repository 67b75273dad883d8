"""Rewards that are only measured: their values are the rewards' own, and training is untouched."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adrpo.cli.domains import door_of
from adrpo.config import FlowConfig
from adrpo.config.rewards import RewardTermSection, taken_name
from adrpo.data import Prompt
from adrpo.errors import AdrpoError
from adrpo.evaluation.evaluator import Evaluator
from adrpo.evaluation.targets import Target, evaluate_target
from adrpo.evaluation.values import read_values, values_path
from adrpo.flow.drawing import DrawnImages
from adrpo.flow.models.families.stable_diffusion_3 import StableDiffusion3Policy
from adrpo.flow.training.adrpo import FlowTrainer
from adrpo.report import write_report
from adrpo.rewards import RewardTerm
from adrpo.rewards.file_size import JpegSize
from adrpo.rewards.image import ClipNovelty
from adrpo.rewards.loading import build_measured, build_reward
from adrpo.runs.directory import RunDirectory
from support.tiny_runs import (
    adapter_bytes,
    image_evaluator,
    metrics_without_timings,
    tiny_config,
)

MEASURED: list[dict[str, Any]] = [
    {"name": "jpeg_size"},
    {"name": "support.tiny_runs:moody"},
    # Compares the images of a prompt.
    {"name": "clip_novelty", "options": {"model": "embedded-evaluation"}},
]


def config(*measured: dict[str, Any]) -> FlowConfig:
    """A reward that draws from the global generators, as one that is only measured does."""
    settings = tiny_config(evaluation={"seen_prompts": 3, "rewards": list(measured)})
    reward = FlowConfig.model_validate(
        {"reward": [{"name": "support.tiny_runs:noisy_darkness"}]}
    ).reward
    return settings.model_copy(update={"reward": reward})


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run that measures nothing more, and one that measures MEASURED."""
    folder = tmp_path_factory.mktemp("runs")
    without = FlowTrainer(config()).train(folder / "without", progress=False)
    return without, FlowTrainer(config(*MEASURED)).train(folder / "with", progress=False)


def test_training_is_the_same_bit_for_bit(runs: tuple[Path, Path]):
    without, measured = runs
    assert metrics_without_timings(measured) == metrics_without_timings(without)
    assert adapter_bytes(measured) == adapter_bytes(without)
    states = [
        torch.load(run / "checkpoints/step-000004/state.pt", weights_only=True) for run in runs
    ]
    for name in ("adapter", "rng"):
        assert str(states[0][name]) == str(states[1][name])


def test_every_evaluation_has_them_and_loses_nothing(runs: tuple[Path, Path]):
    without, measured = (RunDirectory.open(run).read_evaluations() for run in runs)
    places = [(step, split) for step in (0, 2, 4) for split in ("unseen", "seen")]
    assert [(row["step"], row["split"]) for row in measured] == places
    ends = ("", "_low", "_high", "_change", "_change_low", "_change_high")
    names = ("jpeg_size", "moody", "clip_novelty")
    for row, other in zip(measured, without, strict=True):
        more = {name + end for name in names for end in (ends if row["step"] else ends[:3])}
        assert row.keys() - other.keys() == more
        assert {name: row[name] for name in other} == other


def test_every_column_of_an_evaluation_is_refused_as_a_name(runs: tuple[Path, Path]):
    row = RunDirectory.open(runs[0]).read_evaluations("unseen")[-1]
    columns = {name for name in row if not name.startswith("noisy_darkness")}
    assert {"split", "gold_accuracy", "gold_accuracy_change_low"} <= columns
    assert any(name.startswith("gold_accuracy_color") for name in columns)
    for column in columns:
        assert taken_name([RewardTermSection(name=f"judges:{column}")], []) is not None, column


def test_the_values_are_what_the_rewards_return(policy: StableDiffusion3Policy):
    prompts = [Prompt("a red circle", "color"), Prompt("two blue stars", "counting")]
    own = config(*MEASURED)
    rewards = build_measured(own.evaluation.rewards, "cpu")
    evaluator = image_evaluator(own, policy, prompts, others=rewards)
    drawn = evaluator.drawing.draw()
    images, values = drawn.images, evaluator.values(drawn)
    texts = [prompt.text for prompt in prompts for _ in range(2)]
    novelty = ClipNovelty("embedded-evaluation")
    for name, reward in (("jpeg_size", JpegSize()), ("clip_novelty", novelty)):
        # In float32, as all rewards.
        expected = np.array(reward(texts, images), dtype=np.float32).reshape(2, 2)
        np.testing.assert_array_equal(values[name], expected)
    # All images of a prompt are compared, by the CLIP of clip_diversity: 100 (1 - cos), of which
    # float32 knows 100 times 1e-7.
    np.testing.assert_allclose(
        values["clip_novelty"].mean(axis=1), values["clip_diversity"], rtol=0, atol=1e-4
    )
    assert evaluator.score(drawn).by_term == {}


def test_the_reward_of_an_evaluation_is_the_one_that_is_trained_on(policy: StableDiffusion3Policy):
    prompts = [Prompt("a red circle", "color"), Prompt("two blue stars", "counting")]
    named = [{"name": "jpeg_size", "weight": -2.0}, {"name": "support.tiny_runs:darkness"}]
    reward = build_reward(FlowConfig.model_validate({"reward": named}).reward, "cpu")
    others = build_measured(config(MEASURED[2]).evaluation.rewards, "cpu")
    evaluator = image_evaluator(config(), policy, prompts, reward, others)
    drawn = evaluator.drawing.draw()
    values = evaluator.values(drawn)
    np.testing.assert_array_equal(values["reward"].flatten(), evaluator.score(drawn).total)
    # Sums in float32 and in float64.
    expected = values["darkness"] - 2 * values["jpeg_size"]
    np.testing.assert_allclose(values["reward"], expected, rtol=1e-6)


def test_evaluate_measures_a_finished_run_by_them(runs: tuple[Path, Path], tmp_path: Path):
    overrides = ["evaluation.rewards=[{name: jpeg_size}]"]
    target = Target.resolve(str(runs[0]), door_of, overrides=overrides)
    row = evaluate_target(target, tmp_path / "again")
    trained = RunDirectory.open(runs[1]).read_evaluations("unseen")[-1]
    assert row["jpeg_size"] == trained["jpeg_size"]
    assert row["jpeg_size_change"] == trained["jpeg_size_change"]
    assert "clip_novelty" not in row


def test_the_report_shows_them(runs: tuple[Path, Path], tmp_path: Path):
    page = write_report(runs[1]).read_text(encoding="utf-8")
    assert "JPEG size" in page and "moody" in page


def unscored(policy: StableDiffusion3Policy, function: Any) -> Evaluator[DrawnImages]:
    prompts = [Prompt("a red circle", "color"), Prompt("two blue stars", "counting")]
    (term,) = build_measured(config({"name": "jpeg_size"}).evaluation.rewards, "cpu")
    others = [type(term)("judge", 1.0, function)]
    return image_evaluator(config(), policy, prompts, others=others)


def test_a_prompt_with_an_unscored_image_has_no_value(
    policy: StableDiffusion3Policy, tmp_path: Path
):
    def patchy(prompts: list[str], images: list[Image.Image], **_: Any) -> list[float | None]:
        if len(images) > 1:
            raise RuntimeError("one at a time")
        return [None if "red" in prompts[0] else 3.0]

    run = RunDirectory.create(tmp_path / "run", "")
    row = unscored(policy, patchy).evaluate(run, 0)
    values = read_values(values_path(run, 0))["judge"]
    assert np.isnan(values[0]).all() and (values[1] == 3).all()
    # One prompt alone has no interval.
    assert (row["judge"], row["judge_low"], row["judge_high"]) == (3, None, None)
    # Of four images, those of the first prompt.
    assert row["samples_excluded"] == np.isnan(values).sum() == 2


def test_a_reward_that_scores_nothing_is_no_column(policy: StableDiffusion3Policy, tmp_path: Path):
    """As one that reads texts off images, where no prompt asks for a text."""
    run = RunDirectory.create(tmp_path / "run", "")
    row = unscored(policy, lambda images, **_: [None] * len(images)).evaluate(run, 0)
    assert not any(name.startswith("judge") for name in row)


def test_a_reward_that_raises_for_all_images_stops_the_run(policy: StableDiffusion3Policy):
    def away(**_: Any) -> list[float | None]:
        raise RuntimeError("the judge is away")

    with pytest.raises(
        AdrpoError,
        match=r"evaluation\.rewards: expected judge to score at least one of 4 samples.*"
        r"judge: RuntimeError: the judge is away .*; mend",
    ):
        unscored(policy, away).measure()

    # One that is trained on, too: its columns would be gone without a word.
    prompts = [Prompt("a red circle", "color"), Prompt("two blue stars", "counting")]
    trained = image_evaluator(config(), policy, prompts, [RewardTerm("judge", 1.0, away)])
    with pytest.raises(AdrpoError, match="reward: expected judge to score at least one of 4"):
        trained.measure()

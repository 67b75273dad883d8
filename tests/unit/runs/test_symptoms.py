"""Symptoms of a training that learns nothing: told once, after so many steps, with the key."""

from typing import Any

import pytest

from adrpo.runs.progress import TrainingProgress
from adrpo.runs.symptoms import STEPS, symptoms

FLOW: dict[str, Any] = {"algorithm": {"advantage_clip": [-1.0, 1.0], "advantage_scale": "none"}}
LLM: dict[str, Any] = {"algorithm": {"advantage_clip": 0.04, "advantage_scale": "group"}}


def rows(count: int, **columns: Any) -> list[dict[str, Any]]:
    fine = {"samples": 8, "samples_excluded": 0, "advantage_std": 0.5, "divergence": 0.0}
    return [
        fine | {"step": step, "samples_per_second": 1.0} | columns for step in range(1, count + 1)
    ]


def test_a_healthy_run_has_none():
    assert symptoms(rows(50), FLOW, 50) == []


def test_advantages_far_below_the_clip_are_told_with_the_key():
    """0.0015 beside a clip of 1, as it was met; at a tenth of the clip there is nothing to say."""
    (told,) = symptoms(rows(50, advantage_std=0.0015), FLOW, 50)
    assert told.startswith(f"steps 1 to {STEPS}: ") and "0.0015" in told
    assert "algorithm.advantage_scale=group" in told and "clip of 1," in told
    assert symptoms(rows(50, advantage_std=0.1), FLOW, 50) == []


def test_rewards_of_a_language_model_are_advantages_where_no_scale_divides_them():
    small = rows(20, advantage_std=None, reward_std=0.001)
    assert symptoms(small, LLM, 20) == []
    unscaled = {"algorithm": LLM["algorithm"] | {"advantage_scale": "none"}}
    (told,) = symptoms(small, unscaled, 20)
    assert "clip of 0.04," in told
    # Without a clip of its own the coefficient's is beta_0.
    implied = {"algorithm": {"advantage_clip": None, "beta_0": 0.04, "advantage_scale": "none"}}
    assert symptoms(small, implied, 20) == [told]
    # A method without a clip is far from none.
    assert symptoms(small, {"algorithm": {"beta_0": 1.0, "advantage_scale": "none"}}, 20) == []


@pytest.mark.parametrize("constant", [{"advantage_std": 0.0}, {"degenerate_fraction": 1.0}])
def test_a_constant_reward_is_told(constant: dict[str, Any]):
    (told,) = symptoms(rows(20, **constant), FLOW, 20)
    assert "one reward" in told and "samples_per_prompt" in told


def test_pairs_that_mostly_tell_nothing_are_told_with_the_churn():
    """As a reward of 0 or 1 makes them; at a half there is nothing to say."""
    settings = {"algorithm": {"method": "fdfo", "churn": 0.0025}}
    few = rows(20, informative_fraction=0.125)
    few[4]["informative_fraction"] = 0.25
    (told,) = symptoms(few, settings, 20)
    assert told.startswith(f"steps 1 to {STEPS}: 12 to 25 % of pairs")
    assert "graded reward" in told and "algorithm.churn, now 0.0025," in told
    assert symptoms(rows(20, informative_fraction=0.5), settings, 20) == []
    # A step without any score has no share.
    assert symptoms(rows(20, informative_fraction=None), settings, 20) == []


def test_samples_without_a_score_in_every_step_are_told_with_the_first_error():
    failing = rows(20, samples_excluded=2)
    failing[3]["reward_error"] = "judge: RuntimeError: away (mine.py, line 3)"
    failing[5]["reward_error"] = "judge: RuntimeError: another (mine.py, line 9)"
    (told,) = symptoms(failing, FLOW, 20)
    assert f"{2 * STEPS} of {8 * STEPS}" in told and "(judge: RuntimeError: away (mine.py" in told
    # A step that has all scores begins the count anew.
    failing[8]["samples_excluded"] = 0
    assert symptoms(failing[:18], FLOW, 20) == []
    assert len(symptoms(failing[:19], FLOW, 20)) == 1


def test_a_short_run_is_told_by_all_of_its_steps():
    assert len(symptoms(rows(3, advantage_std=0.001), FLOW, 3)) == 1
    assert symptoms(rows(2, advantage_std=0.001), FLOW, 3) == []


def test_a_run_tells_each_once(capsys: pytest.CaptureFixture[str]):
    with TrainingProgress(30, completed=0, enabled=True, settings=FLOW) as bar:
        for row in rows(30, advantage_std=0.001):
            bar.update(row)
    out = capsys.readouterr().out
    assert out.count("algorithm.advantage_scale=group") == 1 and "steps 1 to 10: " in out

"""The progress bar: what it shows of a row, and what it tells once."""

from typing import Any

import pytest

from adrpo.runs.progress import TrainingProgress

ROW: dict[str, Any] = {
    "step": 1, "reward_mean": 0.25, "divergence": 0.5, "beta_min": 0.0, "beta_max": 0.08,
    "samples_per_second": 3.0, "samples": 4, "samples_excluded": 0,
}  # fmt: skip


def shown(capsys: pytest.CaptureFixture[str], *rows: dict[str, Any], enabled: bool = True) -> str:
    with TrainingProgress(9, completed=0, enabled=enabled) as bar:
        for row in rows:
            bar.update(ROW | row)
    return capsys.readouterr().out


def test_a_mean_of_nothing_is_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    assert "reward 0.25 div 0.5000 beta 0..0.08 3.0/s" in shown(capsys, {})
    empty: dict[str, Any] = dict.fromkeys(("reward_mean", "divergence", "beta_min", "beta_max"))
    assert "reward - div - beta -..- 3.0/s" in shown(capsys, empty)
    assert "reward - div -" in shown(capsys, {"reward_mean": float("nan"), "divergence": None})


def test_samples_without_a_score_are_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(
        capsys,
        {"step": 2, "samples_excluded": 1},
        {"step": 3, "samples_excluded": 2},
        # The first exception is told, and no second one.
        {"step": 4, "samples_excluded": 2, "reward_error": "judge: RuntimeError: [red] is away"},
        {"step": 5, "samples_excluded": 3, "reward_error": "judge: RuntimeError: away again"},
        {"step": 6, "samples_excluded": 4},
        {"step": 7, "samples_excluded": 4},
    )
    told = [line for line in text.splitlines() if line.startswith("step ")]
    assert told == [
        "step 2: 1 of 4 samples have no score and are left out; metrics.jsonl counts all",
        "step 4: 2 of 4 samples have no score and are left out (judge: RuntimeError: [red] is "
        "away); metrics.jsonl counts all",
        "step 6: none of 4 samples has a score to learn from; metrics.jsonl counts all",
    ]


def test_a_bar_that_is_switched_off_tells_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, {"samples_excluded": 4}, enabled=False) == ""


def test_a_method_without_rewards_has_none_to_show(capsys: pytest.CaptureFixture[str]) -> None:
    row = {name: ROW[name] for name in ("step", "divergence", "samples_per_second", "samples")}
    with TrainingProgress(9, completed=0, enabled=True) as bar:
        bar.update(row)
    assert "div 0.5000 3.0/s" in capsys.readouterr().out

"""Values of an evaluation on disk: what is computed with again is never rounded."""

from pathlib import Path

import numpy as np
import pytest

from adrpo.evaluation.intervals import mean_over_seeds
from adrpo.evaluation.values import read_values, summarise, write_values
from adrpo.runs.spread import spread


def test_values_come_back_as_they_were(tmp_path: Path) -> None:
    values = {"reward": np.array([[4e-7, 1 / 3], [np.nan, -1e-12]]), "kl": np.array([2 / 3, 1e9])}
    write_values(tmp_path / "values.json", values)
    read = read_values(tmp_path / "values.json")
    for name, column in values.items():
        np.testing.assert_array_equal(read[name], column)


def test_a_constant_too_small_for_six_decimals_does_not_change(tmp_path: Path) -> None:
    values = {"reward": np.full((4, 2), 4e-7)}
    write_values(tmp_path / "values.json", values)
    row = summarise(values, [""] * 4, read_values(tmp_path / "values.json"))
    assert [row[f"reward_change{end}"] for end in ("", "_low", "_high")] == [0.0, 0.0, 0.0]


def test_a_metric_by_category_has_its_interval_and_change_in_each() -> None:
    rng = np.random.default_rng(0)
    categories = ["color", "shape", "", "color", "shape", "color"]
    base, tuned = (
        {name: rng.uniform(size=(6, 4)) for name in ("gold_accuracy", "clip_score")}
        for _ in range(2)
    )
    tuned["gold_accuracy"][3, 1] = np.nan  # leaves its prompt out of both sides
    row = summarise(tuned, categories, base)
    of_category = {name for name in row if name.startswith("gold_accuracy_")}
    ends = ("", "_low", "_high", "_change", "_change_low", "_change_high")
    whole = {f"gold_accuracy{end}" for end in ends[1:]}
    assert of_category - whole == {
        f"gold_accuracy_{c}{e}" for c in ("color", "shape") for e in ends
    }
    assert {name for name in row if name.startswith("clip_score")} == {
        f"clip_score{end}" for end in ends
    }
    kept = tuned["gold_accuracy"][[0, 5]]
    assert row["gold_accuracy_color"] == kept.mean()
    change = kept.mean() - base["gold_accuracy"][[0, 5]].mean()
    assert row["gold_accuracy_color_change"] == pytest.approx(change, rel=1e-12)  # other sums
    expected = mean_over_seeds(kept[None], ["color"] * 2)
    assert row["gold_accuracy_color_low"] == expected.low
    assert row["gold_accuracy_color_high"] == expected.high


def test_an_unscored_sample_leaves_its_prompt_out_of_both_sides() -> None:
    rng = np.random.default_rng(1)
    after, before = rng.uniform(size=(2, 5, 2))
    kept, names = [1, 2, 4], ["a", "b", "a", "b", "a"]
    expected = summarise(
        {"reward": after[kept]}, [names[place] for place in kept], {"reward": before[kept]}
    )
    after[0, 1] = before[3, 0] = np.nan
    assert summarise({"reward": after}, names, {"reward": before}) == expected


def test_shown_prompts_are_of_the_categories_in_turn() -> None:
    categories = ["a", "a", "b", "a", "c", "b"]
    assert spread(categories, 4) == [0, 2, 4, 1]
    assert spread(categories, 9) == [0, 2, 4, 1, 5, 3]


def test_one_prompt_has_no_interval_and_says_so() -> None:
    values = {"reward": np.array([[1.0, 2.0], [np.nan, 1.0]])}
    row = summarise(values, ["a", "a"], None)
    assert row == {"reward": 1.5, "reward_low": None, "reward_high": None}

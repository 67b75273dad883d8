"""The README's first table: its intervals, and that it is drawn from the committed values."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
RESULTS = BENCHMARKS / "results/improvement"
README = (BENCHMARKS.parent / "README.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def test_a_prompt_without_a_value_on_one_side_is_left_out_of_both():
    from improvement import estimates

    before = {"clip_diversity_right": np.array([[20.0, np.nan, 10.0, 40.0]])}
    after = {"clip_diversity_right": np.array([[10.0, 5.0, 5.0, np.nan]])}
    found = estimates(before, after, ["a"] * 4, list(before))
    (base, kept) = (found[part]["clip_diversity_right"] for part in ("base", "kept"))
    assert base["prompts"] == kept["prompts"] == 2
    assert base["mean"] == 15 and kept["mean"] == pytest.approx(0.5)


def test_a_prompt_that_all_seeds_share_counts_once():
    """Three seeds that say the same tell of the prompts what one of them tells, and no more."""
    from improvement import estimates

    rng = np.random.default_rng(0)
    names = ["a", "b", "c"] * 10
    values = {
        name: [rng.normal(30, 5, size=shape).clip(1) for _ in range(2)]
        for name, shape in {"gold_accuracy": (30, 4), "clip_diversity": (30,)}.items()
    }
    one, three = (
        estimates(
            *({name: np.stack([pair[side]] * seeds) for name, pair in values.items()}
              for side in (0, 1)),
            names,
            list(values),
        )
        for seeds in (1, 3)
    )  # fmt: skip
    for part in ("base", "tuned", "change", "kept"):
        for name, estimate in one[part].items():
            # The mean of three equal numbers may differ from them in the last bit.
            ends = [estimate[end] for end in ("mean", "low", "high")]
            assert [three[part][name][end] for end in ("mean", "low", "high")] == pytest.approx(
                ends, rel=1e-12
            )
            assert estimate["low"] < estimate["mean"] < estimate["high"]


def numbers(tree: Any) -> list[float]:
    """All numbers of a nested record, in its order."""
    if isinstance(tree, dict):
        return [number for item in tree.values() for number in numbers(item)]
    if isinstance(tree, list):
        return [number for item in tree for number in numbers(item)]
    return [float(tree)] if isinstance(tree, int | float) else []


def test_the_table_of_the_readme_is_drawn_from_the_committed_values():
    from improvement import redrawn, table

    committed = json.loads((RESULTS / "summary.json").read_text(encoding="utf-8"))
    again = redrawn(RESULTS)
    assert again.keys() == committed.keys()
    # Sums of a few hundred numbers, which another build of NumPy may add in another order.
    assert numbers(again) == pytest.approx(numbers(committed), rel=1e-9, abs=1e-12)
    drawn = table(again)
    assert drawn == (RESULTS / "table.md").read_text(encoding="utf-8")
    assert drawn in README


def test_what_the_readme_says_of_the_table_is_what_was_measured():
    from comparison_tables import interval

    found = json.loads((RESULTS / "summary.json").read_text(encoding="utf-8"))
    gains = {name: row["gold_accuracy"] for name, row in found["change"].items()}
    kept = {name: row["clip_diversity"] for name, row in found["kept"].items()}
    told = README.partition("## What it gains")[2].partition("\n## ")[0]
    assert f"{found['images'] // found['prompts']} images for each of {found['prompts']}" in told
    full, demo, guided = gains
    assert f"are {gains[full]['mean']:.3f} and {kept[full]['mean']:.3f}" in told
    # "The intervals reach below both."
    assert gains[full]["low"] < 0.15 and kept[full]["low"] < 0.9
    for gain in (gains[full], gains[demo]):
        assert f"+{min(gain['seeds']):.3f} to\n+{max(gain['seeds']):.3f}".replace("\n", " ") in (
            " ".join(told.split())
        )
    # "Is reached with every seed."
    assert min(gains[demo]["seeds"]) > 0.05 and min(kept[demo]["seeds"]) > 0.9
    means = [gains[guided]["mean"], kept[guided]["mean"]]
    assert "gains more, {:.3f}, and keeps less of the diversity, {:.2f}".format(*means) in told
    assert gains[guided]["mean"] > gains[full]["mean"]
    assert kept[guided]["mean"] < kept[full]["mean"]

    frontier = json.loads((BENCHMARKS / "results/reward_frontier/summary.json").read_text())
    at_the_aim = [reward["kept_at"]["+0.15"] for reward in frontier["rewards"].values()]
    for estimate in at_the_aim:
        assert interval(estimate, 2) in " ".join(told.split())
    least = min(100 * estimate["reached"] for estimate in at_the_aim)
    assert f"{100 - least:.0f} %" in told

    reward = json.loads((BENCHMARKS / "results/embedded_quality/summary.json").read_text())
    for name, number in {
        "pairs_in_order": "puts {:.2f} of the pairs",
        "rank_correlation_with_gold_within_prompt": "is {:.2f}; a perfect",
        "rank_correlation_of_a_perfect_score": "would have {:.2f}",
        "rank_correlation_with_requirements_met": "it is {:.2f}; we wanted",
    }.items():
        assert number.format(reward["reward_clip"][name]) in " ".join(told.split()), name

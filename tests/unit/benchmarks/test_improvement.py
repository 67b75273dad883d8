"""The README's first table: its intervals, and what is said of it."""

import json
from pathlib import Path

import numpy as np
import pytest

from adrpo.embedded.scenes import caption, parse_caption, prompt_set, split_of

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


def gains_section() -> str:
    """The section of the README that has the table, in one line."""
    return " ".join(README.partition("## What it gains")[2].partition("\n## ")[0].split())


def test_the_final_table_is_of_prompts_that_no_choice_has_seen():
    """All its evaluations show the same prompts, each of the test split, and measured them twice:
    before and after training, guidance once."""
    from improvement import HELD_OUT, TEST, measured, of_split, unpacked

    with unpacked(RESULTS / "runs.tar.xz") as folder:
        every = {path.name for path in (folder / "runs").iterdir()}
        runs = sorted(name for name in every if not name.endswith(f"-{TEST}"))
        assert every == {of_split(Path(name), s).name for name in runs for s in (TEST, HELD_OUT)}
        listings = []
        for name in runs:
            run = of_split(folder / "runs" / name, TEST)
            listings.append(json.loads((run / "samples/prompts.json").read_text(encoding="utf-8")))
            rows = range(len(listings[-1]["categories"]))
            before, after = (measured([run], place, rows)["clip_score"] for place in (0, -1))
            assert before.shape == (1, len(rows), 4)
            assert (before == after).all() == name.startswith("guidance")
    assert all(listing == listings[0] for listing in listings)
    texts = [item["prompt"] for item in listings[0]["held_out"]]
    assert {split_of(parse_caption(text)) for text in texts} == {"test"}
    scenes = prompt_set(len(listings[0]["categories"]), split="test", seed=1234)
    assert [scene.category for scene in scenes] == listings[0]["categories"]
    assert set(texts) <= set(map(caption, scenes))


def test_what_the_readme_says_of_the_table_is_what_was_measured():
    splits = json.loads((RESULTS / "summary.json").read_text(encoding="utf-8"))["splits"]
    found = splits["test"]
    gains, kept = (
        {
            split: {name: row[metric] for name, row in part[change].items()}
            for split, part in splits.items()
        }
        for change, metric in (("change", "gold_accuracy"), ("kept", "clip_diversity"))
    )
    told = gains_section()
    assert f"{found['images'] // found['prompts']} images for each of {found['prompts']}" in told
    full, demo, guided = gains["test"]

    def both(split: str, name: str) -> str:
        return f"{gains[split][name]['mean']:.3f} and {kept[split][name]['mean']:.3f}"

    # "Neither is reached on the test split": the demo's share is.
    assert f"There the means over three seeds are {both('test', full)}" in told
    assert gains["test"][full]["mean"] < 0.15 < gains["test"][full]["high"]
    assert kept["test"][full]["mean"] < 0.9 < kept["test"][full]["high"]
    assert f"The demo, which should gain 0.05 and keep 0.9, has {both('test', demo)}" in told
    assert gains["test"][demo]["mean"] < 0.05 and kept["test"][demo]["mean"] > 0.9
    for name in (full, demo):
        seeds = gains["test"][name]["seeds"]
        assert f"+{min(seeds):.3f} to +{max(seeds):.3f}" in told
    # What was chosen by the held-out prompts reached its aims there.
    assert (
        f"there the means are {both('held_out', full)}, of the demo {both('held_out', demo)}"
        in told
    )
    assert gains["held_out"][full]["mean"] > 0.15 and kept["held_out"][full]["mean"] > 0.9
    assert min(gains["held_out"][demo]["seeds"]) > 0.05
    assert min(kept["held_out"][demo]["seeds"]) > 0.9
    alike = splits["alike"]["prompts"]
    assert f"the {alike} held-out prompts of these three have {both('alike', full)}" in told
    assert f"of the demo {both('alike', demo)}" in told
    # "The gain carries over; the share is lower there, within the width of the intervals."
    for name in (full, demo):
        assert gains["test"][name]["mean"] >= gains["alike"][name]["mean"]
        assert kept["test"][name]["mean"] < kept["alike"][name]["mean"]
        assert kept["test"][name]["high"] > kept["alike"][name]["low"]
    means = [gains["test"][guided]["mean"], kept["test"][guided]["mean"]]
    assert "gains as much, {:.3f}, and keeps less of the diversity, {:.2f}".format(*means) in told
    assert abs(means[0] - gains["test"][full]["mean"]) < 0.01
    assert means[1] < kept["test"][full]["mean"]


def test_what_the_readme_says_of_the_reward_is_what_was_measured():
    told = gains_section()
    reward = json.loads((BENCHMARKS / "results/embedded_quality/summary.json").read_text())
    for name, number in {
        "pairs_in_order": "puts {:.2f} of the pairs",
        "rank_correlation_with_gold_within_prompt": "is {:.2f}; a perfect",
        "rank_correlation_of_a_perfect_score": "would have {:.2f}",
        "rank_correlation_with_requirements_met": "it is {:.2f}; we wanted",
    }.items():
        assert number.format(reward["reward_clip"][name]) in told, name
